"""Events: facts announced on one stream, at least once."""
