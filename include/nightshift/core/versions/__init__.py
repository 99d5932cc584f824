"""Versions: specs fitted on rows, and their files.

Put here: fitting and exporting a spec, the files of a version. Keep out: single estimators (models) and gates.
"""
