"""Put here: steps that walk specs over past partitions and nominate a challenger.

Keep out: the walk and its statistics (core.backtest).
"""
