-- Delays of the last days of each destination in the schedule to score, minus those of all destinations.
with sums as (
    select
        dest,
        sum(known) filter (age_days < 1) as known_1d, sum(late) filter (age_days < 1) as late_1d,
        sum(known) filter (age_days < 3) as known_3d, sum(late) filter (age_days < 3) as late_3d,
        count(*) filter (age_days < 1) as flights_1d, sum(cancelled) filter (age_days < 1) as cancelled_1d
    from recent
    group by grouping sets ((dest), ())
)

select
    entity.dest,
    relative_rate(own.late_1d, own.known_1d, everywhere.late_1d / nullif(everywhere.known_1d, 0))
        as destination_relative_late_rate_1d,
    relative_rate(own.late_3d, own.known_3d, everywhere.late_3d / nullif(everywhere.known_3d, 0))
        as destination_relative_late_rate_3d,
    relative_rate(own.cancelled_1d, own.flights_1d, everywhere.cancelled_1d / nullif(everywhere.flights_1d, 0))
        as destination_relative_cancellation_rate_1d
from (select distinct dest from tonight) as entity
left join sums as own on own.dest = entity.dest
left join sums as everywhere on everywhere.dest is null
