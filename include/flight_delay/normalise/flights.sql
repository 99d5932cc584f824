-- Flights whose outcome is known. Departures are checked as in schedule.sql.
--
-- A malformed tail number becomes NULL and the row is kept, because its label is usable. The
-- delivered value stays in `landed_tailnum` for the expectations, which name each such row.
--
-- `arrived_at` is when the outcome became known: both clocks are local, but taxi time is under an
-- hour and zones are whole hours apart, so the minutes past the hour determine the taxi time.
WITH flown AS (
    SELECT
        *,
        try(make_date(year, month, day)) AS flight_date,
        try(time_hour + to_minutes(minute)) AS departure_at,
        try(make_timestamp(year, month, day, sched_dep_time // 100, sched_dep_time % 100, 0)) AS departure_local,
        dep_time // 100 * 60 + dep_time % 100 AS departure_minute,
        arr_time // 100 * 60 + arr_time % 100 AS arrival_minute
    FROM landed
)
SELECT
    flight_date,
    carrier,
    flight,
    origin,
    dest,
    CASE
        WHEN timezone('America/New_York', departure_at) = departure_local THEN departure_at
    END AS scheduled_departure_at,
    sched_dep_time // 100 * 60 + sched_dep_time % 100 AS scheduled_departure_minute,
    sched_arr_time // 100 * 60 + sched_arr_time % 100 AS scheduled_arrival_minute,
    distance::DOUBLE AS distance_miles,
    CASE WHEN regexp_full_match(tailnum, 'N[1-9][0-9A-Z]{1,4}') THEN tailnum END AS tailnum,
    dep_delay::DOUBLE AS departure_delay_minutes,
    arr_delay::DOUBLE AS arrival_delay_minutes,
    air_time::DOUBLE AS air_time_minutes,
    CASE
        WHEN arr_delay IS NOT NULL THEN 'arrived'
        WHEN dep_time IS NULL THEN 'cancelled'
        ELSE 'diverted'
    END AS status,
    tailnum AS landed_tailnum,
    -- Null beyond what the expectations of delay and air time allow: these name the row.
    CASE WHEN dep_delay BETWEEN -120 AND 2880 AND air_time BETWEEN 10 AND 1200 THEN try(departure_at + to_minutes(
        (dep_delay + air_time + ((arrival_minute - departure_minute - air_time) % 60 + 60) % 60)::BIGINT
    )) END AS arrived_at,
    landed_uri,
    landed_row
FROM flown
