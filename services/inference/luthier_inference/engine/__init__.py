"""The engine process: one base model, its adapters, and the loop that writes tokens.

The only part of the inference service that imports torch.
"""
