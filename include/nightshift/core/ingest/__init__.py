"""From delivered files to curated and quarantined rows.

Put here: parsing, typing, curation, profiles, quarantine. Keep out: the landing bucket, Great Expectations (io).
"""
