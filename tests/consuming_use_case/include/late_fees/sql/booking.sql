select tomorrow.booking_key, scores.p_late as return_score
from tomorrow
left join return_scores as scores
    on scores.delivered_on = $partition
    and scores.booking_date = tomorrow.booking_date
    and scores.booking = tomorrow.booking
