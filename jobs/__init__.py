"""What runs on its own: trending windows, profile refresh, placement moves, retention."""
