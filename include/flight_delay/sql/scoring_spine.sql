-- The flights to score for the partition: those of the day after, as scheduled, including those that are cancelled
-- later.
select
    flight_date, carrier, flight, origin, dest, scheduled_departure_at,
    strftime(flight_date, '%Y-%m-%d') || '|' || carrier || '|' || flight || '|' || origin as flight_id,
    origin || '-' || dest as route,
    (flight_date - 1)::date as partition
from schedule
where delivered_on = $partition and flight_date = $partition + 1
