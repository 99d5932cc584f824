select booking_date, booking, branch, landed_uri, landed_row from landed
