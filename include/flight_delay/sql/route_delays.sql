-- Delay and cancellation history of each route in the schedule to score; the fallback model uses the absolute rate.
select
    entity.route,
    shrunken_rate(late_28d, arrived_28d, late_rate_28d) as route_late_rate_28d,
    relative_rate(late_7d, arrived_7d, late_rate_7d) as route_relative_late_rate_7d,
    relative_rate(late_28d, arrived_28d, late_rate_28d) as route_relative_late_rate_28d,
    relative_rate(late_60d, arrived_60d, late_rate_60d) as route_relative_late_rate_60d,
    relative_rate(cancelled_28d, flights_28d, cancellation_rate_28d) as route_relative_cancellation_rate_28d
from (select distinct route from tonight) as entity
left join record on record.route = entity.route
cross join overall
