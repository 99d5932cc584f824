"""Pure computation: data frames and models in, values out.

Put here: computations on tables, arrays and declared policies. Keep out: I/O, Airflow, names of a use case.
"""
