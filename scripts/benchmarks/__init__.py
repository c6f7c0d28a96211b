"""Measurements of this program, run by scripts/bench. Each is one function with `@measurement` above it."""
