"""Put here: steps that review specs on live losses and record what follows.

Keep out: the rules of the review (core.lifecycle).
"""
