-- Flights whose label is known at the cutoff; of several deliveries of a flight the newest is used. `partition` is the
-- one that predicted the flight: the day before.
with newest as (
    select *
    from flights
    where delivered_on <= $partition and flight_date <= $partition
    qualify row_number() over (
        partition by flight_date, carrier, flight, origin order by delivered_on desc, landed_uri desc, landed_row desc
    ) = 1
)

select
    flight_date, carrier, flight, origin, dest, scheduled_departure_at,
    strftime(flight_date, '%Y-%m-%d') || '|' || carrier || '|' || flight || '|' || origin as flight_id,
    origin || '-' || dest as route,
    (flight_date - 1)::date as partition,
    case when status = 'arrived' then (arrival_delay_minutes >= 15)::bigint end as is_late
from newest
-- A later delivery without an arrival withdraws the label.
where (status = 'arrived' and arrival_delay_minutes is not null) or flight_date < delivered_on
