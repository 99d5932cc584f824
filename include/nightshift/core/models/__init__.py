"""Estimators and specs fitted on rows.

Put here: fitting, preprocessing and evaluation of models. Keep out: gates, export, files, tasks.
"""
