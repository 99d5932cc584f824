select
    booking_date, booking, branch,
    strftime(booking_date, '%Y-%m-%d') || '|' || booking as booking_key,
    (booking_date - 1)::date as partition,
    charged as is_charged
from fees
where delivered_on <= $partition
