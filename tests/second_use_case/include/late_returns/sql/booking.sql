select booking_key, hours, isodow(booking_date)::double as weekday, customer from tomorrow
