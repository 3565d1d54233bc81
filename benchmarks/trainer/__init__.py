"""Measures the trainer beside its peers: `python -m benchmarks.trainer`."""
