-- The typical plane of each flight: from the planes that flew the same carrier, number and origin before, else
-- from those of the carrier on the route. The schedule has no tail number on purpose: a missing one would leak a
-- cancellation.
with flown as (
    select service, carrier, route, tailnum, seats, year_built
    from outcomes
    left join known_planes using (tailnum)
    where arrived = 1
),

by_service as (
    select
        service,
        median(seats) as seats,
        median(year_built) as year_built,
        count(*) as flights,
        count(distinct tailnum) as planes
    from flown
    group by service
),

by_route as (
    select carrier, route, median(seats) as seats, median(year_built) as year_built
    from flown
    group by carrier, route
)

select
    flight_id,
    coalesce(by_service.seats, by_route.seats) as typical_seats,
    year(flight_date) - coalesce(by_service.year_built, by_route.year_built) as typical_plane_age_years,
    coalesce(flights, 0)::double as times_flown_60d,
    planes / flights as planes_per_flight_60d
from tonight
left join by_service using (service)
left join by_route using (carrier, route)
