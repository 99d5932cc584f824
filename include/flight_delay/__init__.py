"""Which of tomorrow's flights out of New York will arrive late? Tables, expectations, features, policies."""
