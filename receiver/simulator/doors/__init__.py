"""The simulator's routes, a file per subject."""
