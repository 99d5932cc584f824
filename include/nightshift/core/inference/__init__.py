"""From a graph's answers to the scores that are published. Pure functions."""
