select
    booking_date, booking, branch,
    strftime(booking_date, '%Y-%m-%d') || '|' || booking as booking_key,
    $partition as partition
from bookings
where delivered_on = $partition and booking_date = $partition + 1
