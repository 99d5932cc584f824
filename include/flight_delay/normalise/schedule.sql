-- Planned flights. A departure is NULL unless its local clock and its UTC hour agree: a producer's change of
-- zone, or an hour lost at a daylight-saving change, must not shift a flight unnoticed.
WITH planned AS (
    SELECT
        *,
        try(make_date(year, month, day)) AS flight_date,
        try(time_hour + to_minutes(minute)) AS departure_at,
        try(make_timestamp(year, month, day, sched_dep_time // 100, sched_dep_time % 100, 0)) AS departure_local
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
    landed_uri,
    landed_row
FROM planned
