"""The only rooms that speak SQL and Redis."""
