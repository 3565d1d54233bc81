"""Records: typed state with revisions, in NATS, with a journal in the object store."""
