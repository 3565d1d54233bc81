"""Objects: immutable bytes by key, in S3 or in a directory."""
