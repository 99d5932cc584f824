-- Weather of the night for the level of delay: the mean of all airports, which lie within 20 miles of each other, and
-- wind and visibility at each origin. Absolute temperature and pressure are in this feature table only.
with observed as (
    select *, $cutoff - observed_at as age
    from weather
    where delivered_on <= $partition and observed_at < $cutoff and observed_at >= $cutoff - interval 28 days
    qualify row_number() over (
        partition by origin, observed_at order by delivered_on desc, landed_uri desc, landed_row desc
    ) = 1
),

last_hours as (
    select
        origin,
        avg(temperature_f) filter (age <= interval 3 hours) as temperature,
        avg(dew_point_f) filter (age <= interval 3 hours) as dew_point,
        avg(humidity_percent) filter (age <= interval 3 hours) as humidity,
        avg(pressure_millibars) filter (age <= interval 3 hours) as pressure,
        avg(pressure_millibars) filter (age > interval 3 hours and age <= interval 6 hours) as pressure_3h_before,
        avg(temperature_f) filter (age > interval 24 hours and age <= interval 27 hours) as temperature_day_before,
        avg(dew_point_f) filter (age > interval 24 hours and age <= interval 27 hours) as dew_point_day_before,
        avg(temperature_f) as temperature_28d,
        avg(wind_speed_mph) filter (age <= interval 6 hours) as wind,
        avg(wind_speed_mph * sin(radians(wind_direction_degrees))) filter (age <= interval 6 hours) as wind_from_east,
        avg(wind_speed_mph * cos(radians(wind_direction_degrees))) filter (age <= interval 6 hours) as wind_from_north,
        avg(least(visibility_miles, 10)) filter (age <= interval 6 hours) as visibility,
        ln(0.01 + sum(precipitation_inches) filter (age <= interval 6 hours)) as precipitation,
        ln(0.01 + sum(precipitation_inches) filter (age <= interval 24 hours)) as precipitation_day
    from observed
    group by grouping sets ((origin), ())
)

select
    entity.origin,
    everywhere.temperature as night_temperature_f,
    everywhere.temperature - everywhere.temperature_28d as night_temperature_anomaly_f,
    everywhere.temperature - everywhere.temperature_day_before as night_temperature_change_24h_f,
    everywhere.dew_point as night_dew_point_f,
    everywhere.dew_point - everywhere.dew_point_day_before as night_dew_point_change_24h_f,
    everywhere.humidity as night_humidity_percent,
    everywhere.pressure as night_pressure_millibars,
    everywhere.pressure - everywhere.pressure_3h_before as night_pressure_change_3h_millibars,
    everywhere.wind as night_wind_mph,
    everywhere.wind_from_east as night_wind_from_east_mph,
    everywhere.wind_from_north as night_wind_from_north_mph,
    everywhere.visibility as night_visibility_miles,
    everywhere.precipitation as night_precipitation_6h,
    everywhere.precipitation_day as night_precipitation_24h,
    here.wind as origin_night_wind_mph,
    here.visibility as origin_night_visibility_miles
from (select distinct origin from tonight) as entity
left join last_hours as here on here.origin = entity.origin
left join last_hours as everywhere on everywhere.origin is null
