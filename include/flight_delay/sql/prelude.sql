-- Tables that all feature tables share. Reads schedule, flights, weather and planes: the deliveries of the
-- last lookback_days, with the delivery day in delivered_on. The filters on delivered_on and $cutoff
-- exclude later data, whatever the caller loaded.

-- Rates of small samples are shrunken towards the overall rate by n / (n + 10).
create macro shrunken_rate(hits, n, overall_rate) as
    (coalesce(hits, 0) + 10 * overall_rate) / (coalesce(n, 0) + 10);

-- Minus the overall rate of the same window: that removes the level of the season, which trees would
-- memorise day by day.
create macro relative_rate(hits, n, overall_rate) as shrunken_rate(hits, n, overall_rate) - overall_rate;

create macro nth_monday(y, m, n) as
    make_date(y, m, 1) + ((8 - isodow(make_date(y, m, 1))) % 7 + 7 * (n - 1))::int;
create macro nth_thursday(y, m, n) as
    make_date(y, m, 1) + ((11 - isodow(make_date(y, m, 1))) % 7 + 7 * (n - 1))::int;
create macro last_monday_of_may(y) as make_date(y, 5, 31) - (isodow(make_date(y, 5, 31)) - 1)::int;

-- The flights to predict: those of the day after the partition.
create table tonight as
select
    strftime(flight_date, '%Y-%m-%d') || '|' || carrier || '|' || flight || '|' || origin as flight_id,
    carrier || '|' || flight || '|' || origin as service,
    origin || '-' || dest as route,
    origin || '|' || scheduled_departure_minute // 60 as origin_hour,
    *
from schedule
where delivered_on = $partition and flight_date = $partition + 1;

-- Outcomes of past flights; of several deliveries of a flight the newest is used.
create table outcomes as
select
    carrier, origin, dest, tailnum,
    carrier || '|' || flight || '|' || origin as service,
    origin || '-' || dest as route,
    origin || '|' || scheduled_departure_minute // 60 as origin_hour,
    $partition - flight_date as age_days,
    (status = 'arrived')::int as arrived,
    (status = 'cancelled')::int as cancelled,
    (status = 'arrived' and arrival_delay_minutes >= 15)::int as late,
    scheduled_departure_minute, scheduled_arrival_minute, distance_miles, air_time_minutes,
    -- Bounded, so that one flight that is a day late does not determine the mean of its route.
    greatest(least(departure_delay_minutes, 180), -15) as departure_delay_minutes,
    greatest(least(arrival_delay_minutes, 180), -30) as arrival_delay_minutes
from flights
where delivered_on <= $partition and flight_date <= $partition
qualify row_number() over (
    partition by flight_date, carrier, flight, origin order by delivered_on desc, landed_uri desc, landed_row desc
) = 1;

-- Counts over the last 1, 3, 7, 28 and 60 days, overall and for each carrier, route, destination, origin, flight
-- number and hour of departure. In each row all keys but one are null.
create table record as
select
    carrier, route, dest, origin, service, origin_hour,
    count(*) filter (age_days < 28) as flights_28d,
    sum(cancelled) filter (age_days < 28) as cancelled_28d,
    sum(arrived) filter (age_days < 1) as arrived_1d,
    sum(late) filter (age_days < 1) as late_1d,
    sum(arrived) filter (age_days < 3) as arrived_3d,
    sum(late) filter (age_days < 3) as late_3d,
    sum(arrived) filter (age_days < 7) as arrived_7d,
    sum(late) filter (age_days < 7) as late_7d,
    sum(arrived) filter (age_days < 28) as arrived_28d,
    sum(late) filter (age_days < 28) as late_28d,
    sum(arrived) as arrived_60d,
    sum(late) as late_60d
from outcomes
where age_days < 60
group by grouping sets ((carrier), (route), (dest), (origin), (service), (origin_hour), ());

-- Null where a window holds no flight.
create table overall as
select
    late_1d / nullif(arrived_1d, 0) as late_rate_1d,
    late_3d / nullif(arrived_3d, 0) as late_rate_3d,
    late_7d / nullif(arrived_7d, 0) as late_rate_7d,
    late_28d / nullif(arrived_28d, 0) as late_rate_28d,
    late_60d / nullif(arrived_60d, 0) as late_rate_60d,
    cancelled_28d / nullif(flights_28d, 0) as cancellation_rate_28d
from record
where coalesce(carrier, route, dest, origin, service, origin_hour) is null;

-- A registry entry under 20 seats is a false match: another plane had that tail number.
create table known_planes as
select tailnum, seats, year_built
from planes
where delivered_on <= $partition and seats >= 20
qualify row_number() over (partition by tailnum order by delivered_on desc, landed_uri desc, landed_row desc) = 1
;

-- Flights of the last day without an outcome at the cutoff although they were due an hour before it: these are late
-- (or diverted). A flight is due after 46 minutes and 0.127 a mile, least squares over past flights.
create table overdue as
select planned.origin, planned.carrier, planned.dest, planned.scheduled_departure_minute
from schedule as planned
anti join (select * from flights where delivered_on <= $partition) as known
    on known.flight_date = planned.flight_date and known.carrier = planned.carrier
    and known.flight = planned.flight and known.origin = planned.origin
where planned.flight_date = $partition and planned.delivered_on < $partition
    and planned.scheduled_departure_at + to_minutes((106 + 0.127 * planned.distance_miles)::bigint) < $cutoff;

-- The last flights, one row each, overdue ones as late: input of the level of delay.
create table recent as
select
    origin, carrier, dest, age_days, scheduled_departure_minute // 60 as hour,
    arrived as known, late, cancelled, departure_delay_minutes, arrival_delay_minutes
from outcomes
where age_days < 28
union all
select origin, carrier, dest, 0, scheduled_departure_minute // 60, 1, 1, 0, null, null
from overdue
