select
    booking_date, booking, branch,
    strftime(booking_date, '%Y-%m-%d') || '|' || booking as booking_key,
    (booking_date - 1)::date as partition,
    returned_late as is_late
from returns
where delivered_on <= $partition
