select branch, (sum(returned_late) + 5) / (count(*) + 10) as branch_late_rate
from returns
where delivered_on <= $partition
group by branch
