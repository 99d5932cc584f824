select branch, (sum(returned_late) + 5) / (count(*) + 10) as branch_late_rate,
    (count(*) / count(distinct booking_date))::double as returns_per_day
from returns
where delivered_on <= $partition
group by branch
