"""Estimators and specs fitted on rows. Put here: what turns rows into a model. Keep out: gates, files, tasks."""
