"""Where data comes from; each source yields batches of entities or interactions."""
