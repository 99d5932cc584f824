select booking_date, booking, p_late, landed_uri, landed_row from landed
