-- Recent delays of each flight in the schedule to score, in minutes, minus the mean of all flights of the day: minutes
-- carry more information than a 0/1 label. Means of few flights are shrunken towards that of the route, and that
-- towards 0, by ten pseudo-flights.
with flown as (
    select * from outcomes where arrived = 1 and age_days < 60
),

overall_day as (
    select age_days, avg(arrival_delay_minutes) as mean, avg(arrival_delay_minutes - departure_delay_minutes) as gained
    from flown group by age_days
),

-- Minus the mean of the day, so that flights on bad days do not look worse than others.
against_day as (
    select
        flown.*, arrival_delay_minutes - overall_day.mean as behind,
        arrival_delay_minutes - departure_delay_minutes - overall_day.gained as lost_on_the_way
    from flown join overall_day using (age_days)
),

sums as (
    select
        service, route, origin_hour, origin_carrier, carrier_dest,
        count(*) as flights,
        sum(behind) as behind,
        sum(lost_on_the_way) as lost,
        count(*) filter (age_days < 7) as flights_7d,
        sum(behind) filter (age_days < 7) as behind_7d,
        sum(lost_on_the_way) filter (age_days < 7) as lost_7d
    from (select *, origin || '|' || carrier as origin_carrier, carrier || '|' || dest as carrier_dest from against_day)
    group by grouping sets ((service), (route), (origin_hour), (origin_carrier), (carrier_dest))
)

select
    flight_id,
    (coalesce(own.behind, 0) + 10 * coalesce(on_route.behind / (on_route.flights + 10), 0))
        / (coalesce(own.flights, 0) + 10) as flight_minutes_behind_60d,
    (coalesce(own.lost, 0) + 10 * coalesce(on_route.lost / (on_route.flights + 10), 0))
        / (coalesce(own.flights, 0) + 10) as flight_minutes_lost_60d,
    coalesce(own.behind_7d, 0) / (coalesce(own.flights_7d, 0) + 5) as flight_minutes_behind_7d,
    coalesce(on_route.lost_7d, 0) / (coalesce(on_route.flights_7d, 0) + 10) as route_minutes_lost_7d,
    coalesce(hourly.behind, 0) / (coalesce(hourly.flights, 0) + 10) as hour_minutes_behind_60d,
    coalesce(hub.behind, 0) / (coalesce(hub.flights, 0) + 10) as origin_carrier_minutes_behind_60d,
    coalesce(hub.behind_7d, 0) / (coalesce(hub.flights_7d, 0) + 10) as origin_carrier_minutes_behind_7d,
    coalesce(there.behind, 0) / (coalesce(there.flights, 0) + 10) as carrier_destination_minutes_behind_60d
from tonight
left join sums as own on own.service = tonight.service
left join sums as on_route on on_route.route = tonight.route
left join sums as hourly on hourly.origin_hour = tonight.origin_hour
left join sums as hub on hub.origin_carrier = tonight.origin || '|' || tonight.carrier
left join sums as there on there.carrier_dest = tonight.carrier || '|' || tonight.dest
