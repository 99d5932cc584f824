"""What a use case declares. Put here: plain declarations, cheap to import. Keep out: anything that computes."""
