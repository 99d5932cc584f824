"""A tiny second use case: which tools, booked for tomorrow, will come back late to the rental shop?"""
