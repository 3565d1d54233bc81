"""gRPC: the server, the client, and errors in between."""
