"""Dialogue summarisation by an encoder-decoder, as in the FLAN-T5 walk-through."""
