select booking_date, booking, branch, customer, hours, landed_uri, landed_row from landed
