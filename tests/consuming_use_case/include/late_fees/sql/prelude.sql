create table tomorrow as
select strftime(booking_date, '%Y-%m-%d') || '|' || booking as booking_key, *
from bookings
where delivered_on = $partition and booking_date = $partition + 1
