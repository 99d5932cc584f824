-- Weather at each origin as observed before the cutoff: the newest observation and the last 24 hours. Temperature
-- and pressure only as differences: their levels follow the season, and models extrapolate badly on them.
with observed as (
    select *, $cutoff - observed_at as age
    from weather
    where delivered_on <= $partition and observed_at < $cutoff and observed_at >= $cutoff - interval 24 hours
    qualify row_number() over (
        partition by origin, observed_at order by delivered_on desc, landed_uri desc, landed_row desc
    ) = 1
)

select
    entity.origin,
    arg_min(temperature_f - dew_point_f, age) as dew_point_spread_f,
    arg_min(wind_speed_mph, age) as wind_speed_mph,
    arg_min(wind_gust_mph, age) as wind_gust_mph,
    arg_min(wind_speed_mph * sin(radians(wind_direction_degrees)), age) as wind_from_east_mph,
    arg_min(wind_speed_mph * cos(radians(wind_direction_degrees)), age) as wind_from_north_mph,
    arg_min(visibility_miles, age) as visibility_miles,
    max(wind_speed_mph) as wind_speed_24h_max_mph,
    min(visibility_miles) as visibility_24h_min_miles,
    sum(precipitation_inches) filter (age <= interval 6 hours) as precipitation_6h_inches,
    sum(precipitation_inches) as precipitation_24h_inches,
    arg_min(pressure_millibars, age) - arg_max(pressure_millibars, age) as pressure_change_24h_millibars
from (select distinct origin from tonight) as entity
left join observed using (origin)
group by entity.origin
