-- Delay and cancellation history of each destination in the schedule to score.
select
    entity.dest,
    relative_rate(late_7d, arrived_7d, late_rate_7d) as destination_relative_late_rate_7d,
    relative_rate(late_28d, arrived_28d, late_rate_28d) as destination_relative_late_rate_28d,
    relative_rate(late_60d, arrived_60d, late_rate_60d) as destination_relative_late_rate_60d,
    relative_rate(cancelled_28d, flights_28d, cancellation_rate_28d) as destination_relative_cancellation_rate_28d
from (select distinct dest from tonight) as entity
left join record on record.dest = entity.dest
cross join overall
