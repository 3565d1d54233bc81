"""The dataset service: files, and datasets made from them by recipes."""
