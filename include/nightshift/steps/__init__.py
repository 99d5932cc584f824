"""Put here: the steps, one module each: `run(context, **refs)` reads inputs, calls core and services, and commits.

Keep out: logic that other steps, commands or pages share (services), and pure functions (core).
"""
