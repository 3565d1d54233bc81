"""One build, start to end: documents to items, items to rows, rows to the stored dataset.

The service steers (`pipeline`); the work is done by child processes (`worker`) on a folder on disk
(`workspace`), so that neither a long corpus nor a crash costs more than its part.
"""
