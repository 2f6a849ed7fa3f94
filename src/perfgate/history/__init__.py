"""What became of a figure over the nights? Stored runs, change points, drifts and noise."""
