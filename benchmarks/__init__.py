"""Benchmarks: what the platform's goals about speed and size are measured with."""
