"""How good lists are: splits, metrics, intervals, and all of them together for a model."""
