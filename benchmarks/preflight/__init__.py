"""Compares what the preflight estimates with what runs hold: `python -m benchmarks.preflight`."""
