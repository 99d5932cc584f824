"""Which specs and versions serve, and how a spec becomes champion. Pure functions over recorded decisions."""
