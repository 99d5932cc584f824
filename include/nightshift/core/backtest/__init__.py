"""Walk-forward backtests of specs, and the gates on them.

Put here: walks, their metrics, the gates between backtest and shadow. Keep out: storage of results, decisions.
"""
