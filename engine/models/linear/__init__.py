"""What the linear item-item algorithms share: weights, decompositions, cut rows, tuning."""
