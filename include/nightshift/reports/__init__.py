"""HTML pages: one frame, one style."""
