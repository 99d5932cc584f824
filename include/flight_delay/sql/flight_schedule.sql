-- Schedule, calendar and congestion of each flight in the schedule to score. Minutes are local to the airport
-- and past midnight; counts include the flight itself.
with holidays as (
    -- US holidays that affect travel, by rule, so that they hold for any year.
    select unnest([
        make_date(y, 1, 1),
        nth_monday(y, 1, 3),
        nth_monday(y, 2, 3),
        last_monday_of_may(y),
        make_date(y, 7, 4),
        nth_monday(y, 9, 1),
        nth_monday(y, 10, 2),
        make_date(y, 11, 11),
        nth_thursday(y, 11, 4),
        make_date(y, 12, 25)
    ]) as holiday
    from (select unnest(range(year($partition)::int - 1, year($partition)::int + 3))::int as y)
),

nearest as (
    select flight_date, arg_min(flight_date - holiday, (abs(flight_date - holiday), holiday)) as days_after_holiday
    from (select distinct flight_date from tonight) cross join holidays
    group by flight_date
),

-- Minutes of the day of the same flights, a week before or as many whole weeks as it is since.
before as (
    select service, arg_min(scheduled_departure_minute, age_days) as scheduled_departure_minute
    from outcomes
    where age_days < 28 and age_days % 7 = 6
    group by service
)

select
    flight_id,
    tonight.scheduled_departure_minute::double as departure_minute,
    scheduled_arrival_minute::double as arrival_minute,
    ((scheduled_arrival_minute - tonight.scheduled_departure_minute + 1440) % 1440)::double as scheduled_clock_minutes,
    distance_miles,
    isodow(flight_date)::double as day_of_week,
    greatest(least(days_after_holiday, 8), -8)::double as days_after_holiday,
    (count(*) over within_30_minutes)::double as origin_departures_30min,
    (count(*) over within_60_minutes)::double as origin_departures_60min,
    (count(*) over until_now)::double as origin_departures_until_now,
    (count(*) over carrier_within_60_minutes) / (count(*) over within_60_minutes) as carrier_share_60min,
    (count(*) over (partition by dest))::double as destination_flights,
    (count(*) over (partition by origin))::double as origin_flights,
    -- Whole hours: a new timetable moves flights by minutes. 0 without a flight to compare with.
    coalesce(
        round((tonight.scheduled_departure_minute - before.scheduled_departure_minute + 2160) % 1440 / 60.0 - 12), 0
    )::double as departure_hours_later_than_last_week
from tonight
join nearest using (flight_date)
left join before using (service)
window
    within_30_minutes as (
        partition by origin order by scheduled_departure_at
        range between interval 30 minutes preceding and interval 30 minutes following
    ),
    within_60_minutes as (
        partition by origin order by scheduled_departure_at
        range between interval 60 minutes preceding and interval 60 minutes following
    ),
    carrier_within_60_minutes as (
        partition by origin, carrier order by scheduled_departure_at
        range between interval 60 minutes preceding and interval 60 minutes following
    ),
    until_now as (
        partition by origin order by scheduled_departure_at
        range between unbounded preceding and current row
    )
