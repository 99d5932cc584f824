-- Delay history of each flight in the schedule to score: of its flight number, and of its hour of departure at its
-- origin, where delays accumulate over the day.
select
    flight_id,
    relative_rate(own.late_60d, own.arrived_60d, late_rate_60d) as flight_relative_late_rate_60d,
    relative_rate(hourly.late_28d, hourly.arrived_28d, late_rate_28d) as hour_relative_late_rate_28d
from tonight
left join record as own on own.service = tonight.service
left join record as hourly on hourly.origin_hour = tonight.origin_hour
cross join overall
