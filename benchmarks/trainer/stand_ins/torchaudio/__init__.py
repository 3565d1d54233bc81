"""Stands in for torchaudio, which LLaMA-Factory imports and does not use for text.

The real one on PyPI needs CUDA's libraries.
"""
