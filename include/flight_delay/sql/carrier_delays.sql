-- Delay and cancellation history of each carrier in the schedule to score; the fallback model uses the absolute rate.
select
    entity.carrier,
    shrunken_rate(late_28d, arrived_28d, late_rate_28d) as carrier_late_rate_28d,
    relative_rate(late_7d, arrived_7d, late_rate_7d) as carrier_relative_late_rate_7d,
    relative_rate(late_28d, arrived_28d, late_rate_28d) as carrier_relative_late_rate_28d,
    relative_rate(late_60d, arrived_60d, late_rate_60d) as carrier_relative_late_rate_60d,
    relative_rate(cancelled_28d, flights_28d, cancellation_rate_28d) as carrier_relative_cancellation_rate_28d
from (select distinct carrier from tonight) as entity
left join record on record.carrier = entity.carrier
cross join overall
