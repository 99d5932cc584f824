"""Use case: which of tomorrow's flights out of New York will arrive late. Feeds, expectations, features, policies."""
