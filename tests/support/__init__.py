"""What several kinds of tests share. Keep out: tests."""
