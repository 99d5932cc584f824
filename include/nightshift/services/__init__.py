"""Application logic that several steps, commands or pages share. Keep out: adapters (io) and pure functions (core)."""
