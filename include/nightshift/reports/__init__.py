"""Put here: rendering of recorded results as HTML pages (one frame, one style) or terminal text.

Keep out: measuring and deciding (core), and reading or writing artifacts (steps, services).
"""
