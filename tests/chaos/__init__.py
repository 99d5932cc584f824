"""Faults between the steps of a night and real services: `make chaos`.

Put here: the proxies that a step reaches its object store and warehouse through, the faults, and what a night that
survived them must leave. Keep out: fault points in the product, and what other tests need (tests/support).
"""
