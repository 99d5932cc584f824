"""Students: models distilled from a teacher's probabilities.

Put here: students and the reduction of their features. Keep out: estimators fitted on labels (models).
"""
