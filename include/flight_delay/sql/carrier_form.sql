-- Delays of the last days of each carrier in the schedule to score, minus those of all carriers.
with sums as (
    select
        carrier,
        sum(known) filter (age_days < 1) as known_1d, sum(late) filter (age_days < 1) as late_1d,
        sum(known) filter (age_days < 3) as known_3d, sum(late) filter (age_days < 3) as late_3d,
        count(*) filter (age_days < 1) as flights_1d, sum(cancelled) filter (age_days < 1) as cancelled_1d,
        avg(departure_delay_minutes) filter (age_days < 1 and hour >= 18) as evening
    from recent
    group by grouping sets ((carrier), ())
)

select
    entity.carrier,
    relative_rate(own.late_1d, own.known_1d, everyone.late_1d / nullif(everyone.known_1d, 0))
        as carrier_relative_late_rate_1d,
    relative_rate(own.late_3d, own.known_3d, everyone.late_3d / nullif(everyone.known_3d, 0))
        as carrier_relative_late_rate_3d,
    relative_rate(own.cancelled_1d, own.flights_1d, everyone.cancelled_1d / nullif(everyone.flights_1d, 0))
        as carrier_relative_cancellation_rate_1d,
    own.evening - everyone.evening as carrier_relative_departure_delay_evening_minutes
from (select distinct carrier from tonight) as entity
left join sums as own on own.carrier = entity.carrier
left join sums as everyone on everyone.carrier is null
