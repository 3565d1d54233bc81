"""Alpaca-style instruction tuning of a causal model without chat template."""
