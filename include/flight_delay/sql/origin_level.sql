-- Level of delay: shares of late and cancelled flights of the last days, everywhere and at each origin in the schedule
-- to score; the same for all flights of an origin. Log odds of shares, shrunken towards 1/4 late and 1/40 cancelled by
-- four and forty pseudo-flights; null where a window holds no flight. Separate from features that differ between the
-- flights of a day: a model that mixes both memorises days.
with log_odds as (
    select
        origin,
        ln((sum(late) filter (age_days < 1) + 1) / (sum(known - late) filter (age_days < 1) + 3)) as late_1d,
        ln((sum(late) filter (age_days < 3) + 1) / (sum(known - late) filter (age_days < 3) + 3)) as late_3d,
        ln((sum(late) filter (age_days < 7) + 1) / (sum(known - late) filter (age_days < 7) + 3)) as late_7d,
        ln((sum(late) + 1) / (sum(known - late) + 3)) as late_28d,
        ln((sum(cancelled) filter (age_days < 1) + 1) / (count(*) filter (age_days < 1) + 39)) as cancelled_1d,
        ln((sum(cancelled) filter (age_days < 3) + 1) / (count(*) filter (age_days < 3) + 39)) as cancelled_3d,
        ln((sum(late) filter (age_days < 1 and hour < 12) + 1)
            / (sum(known - late) filter (age_days < 1 and hour < 12) + 3)) as late_morning,
        ln((sum(late) filter (age_days < 1 and hour >= 18) + 1)
            / (sum(known - late) filter (age_days < 1 and hour >= 18) + 3)) as late_evening,
        avg(departure_delay_minutes) filter (age_days < 1) as departure_delay,
        avg(departure_delay_minutes) filter (age_days < 1 and hour >= 20) as departure_delay_evening,
        avg(arrival_delay_minutes - departure_delay_minutes) filter (age_days < 1) as gained_1d,
        avg(arrival_delay_minutes - departure_delay_minutes) filter (age_days < 7) as gained_7d
    from recent
    group by grouping sets ((origin), ())
),

still_out as (
    select origin, count(*) as flights from overdue group by grouping sets ((origin), ())
),

planned as (
    select origin, count(*) as flights from tonight group by grouping sets ((origin), ())
),

-- Evening flights to time zones further west: a longer time in the air than usual on their route shows a strong west
-- wind, which brings tomorrow's weather. A destination is in the west if the scheduled clock time of the flight is half
-- an hour or more below 46 minutes and 0.127 a mile (as in `overdue`).
westward as (
    select age_days, air_time_minutes / avg(air_time_minutes) over (partition by route) - 1 as longer
    from outcomes
    where arrived = 1 and age_days < 28 and scheduled_departure_minute >= 960
        and (scheduled_arrival_minute - scheduled_departure_minute + 1440) % 1440 < 16 + 0.127 * distance_miles
),

head_wind as (
    select
        avg(greatest(least(longer, 0.4), -0.4)) filter (age_days < 1) as share_1d,
        avg(greatest(least(longer, 0.4), -0.4)) filter (age_days < 3) as share_3d
    from westward
)

select
    entity.origin,
    everywhere.late_1d as level_late_1d,
    everywhere.late_3d as level_late_3d,
    everywhere.late_7d as level_late_7d,
    everywhere.late_28d as level_late_28d,
    everywhere.cancelled_1d as level_cancelled_1d,
    everywhere.cancelled_3d as level_cancelled_3d,
    everywhere.late_morning as level_late_morning,
    everywhere.late_evening as level_late_evening,
    everywhere.departure_delay as level_departure_delay_minutes,
    everywhere.departure_delay_evening as level_departure_delay_evening_minutes,
    everywhere.gained_1d as level_gained_1d_minutes,
    everywhere.gained_7d as level_gained_7d_minutes,
    ln(1 + coalesce(all_out.flights, 0)) as level_overdue,
    all_planned.flights::double as level_flights,
    100 * head_wind.share_1d as level_head_wind_1d_percent,
    100 * (head_wind.share_1d - head_wind.share_3d) as level_head_wind_change_percent,
    here.late_1d as origin_level_late_1d,
    here.late_3d as origin_level_late_3d,
    here.late_7d as origin_level_late_7d,
    here.late_28d as origin_level_late_28d,
    here.cancelled_1d as origin_level_cancelled_1d,
    here.cancelled_3d as origin_level_cancelled_3d,
    here.late_evening as origin_level_late_evening,
    here.departure_delay_evening as origin_level_departure_delay_evening_minutes,
    ln(1 + coalesce(here_out.flights, 0)) as origin_level_overdue
from (select distinct origin from tonight) as entity
left join log_odds as here on here.origin = entity.origin
left join log_odds as everywhere on everywhere.origin is null
left join still_out as here_out on here_out.origin = entity.origin
left join still_out as all_out on all_out.origin is null
left join planned as all_planned on all_planned.origin is null
cross join head_wind
