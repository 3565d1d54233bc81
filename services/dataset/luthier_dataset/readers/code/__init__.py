"""Source code: its languages, its syntax trees, and the units in them."""
