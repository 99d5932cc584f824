select booking_date, booking, branch, customer, hours, returned_late, landed_uri, landed_row from landed
