select branch, (sum(charged) + 5) / (count(*) + 10) as branch_fee_rate
from fees
where delivered_on <= $partition
group by branch
