"""Servers to compare with, each a program of its own: python -m benchmarks.programs.NAME PORT [what it needs]."""
