"""A use case that reads the predictions of another one, to test the machinery with."""
