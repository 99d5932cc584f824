-- Hourly observations. An hour is NULL unless its local clock and UTC agree.
--
-- For the expectations only:
-- temperature_jump_f: how far the temperature differs from both neighbours (within 2 hours) in the
--   same direction; at the edge of a delivery, from its one neighbour. A weather front changes the
--   level for good; a broken reading jumps and comes back.
-- hours_missing_before: observations of the same airport missing since the one before it.
WITH ordered AS (
    SELECT
        *,
        try(make_timestamp(year, month, day, hour, 0, 0)) AS observed_local,
        lag(time_hour) OVER at_origin AS hour_before,
        lead(time_hour) OVER at_origin AS hour_after,
        lag(temp) OVER at_origin AS temp_before,
        lead(temp) OVER at_origin AS temp_after
    FROM landed
    WINDOW at_origin AS (PARTITION BY origin ORDER BY time_hour, landed_uri, landed_row)
),

compared AS (
    SELECT
        *,
        CASE WHEN time_hour - hour_before <= INTERVAL 2 HOURS THEN temp - temp_before END AS from_before,
        CASE WHEN hour_after - time_hour <= INTERVAL 2 HOURS THEN temp - temp_after END AS from_after
    FROM ordered
)

SELECT
    origin,
    CASE WHEN timezone('America/New_York', time_hour) = observed_local THEN time_hour END AS observed_at,
    temp AS temperature_f,
    dewp AS dew_point_f,
    humid AS humidity_percent,
    wind_dir AS wind_direction_degrees,
    wind_speed AS wind_speed_mph,
    wind_gust AS wind_gust_mph,
    precip AS precipitation_inches,
    pressure AS pressure_millibars,
    visib AS visibility_miles,
    CASE
        WHEN from_before IS NULL OR from_after IS NULL THEN abs(coalesce(from_before, from_after))
        WHEN sign(from_before) = sign(from_after) THEN least(abs(from_before), abs(from_after))
        ELSE 0
    END AS temperature_jump_f,
    greatest(date_diff('hour', hour_before, time_hour) - 1, 0) AS hours_missing_before,
    landed_uri,
    landed_row
FROM compared
