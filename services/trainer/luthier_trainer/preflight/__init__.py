"""Preflight: what a job will need and cost, worked out without torch before it is queued."""
