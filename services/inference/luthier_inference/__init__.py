"""The inference service: base models, adapters, and the answers they give."""
