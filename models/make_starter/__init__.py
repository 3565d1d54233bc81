"""Builds the starter model: seeded corpus, tokenizer, training from scratch, evaluation."""
