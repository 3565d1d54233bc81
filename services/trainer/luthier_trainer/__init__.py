"""The trainer: jobs, their controller, and (in `run`) what tunes."""
