select booking_date, booking, branch, charged, landed_uri, landed_row from landed
