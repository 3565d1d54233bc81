"""The run: one job's tuning, in a process of its own. The only part of the trainer with torch."""
