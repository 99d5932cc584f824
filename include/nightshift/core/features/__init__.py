"""Feature tables, training rows and point-in-time joins.

Put here: computation and audit of features as of a cutoff. Keep out: Feast, storage, models.
"""
