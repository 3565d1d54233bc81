"""The fictional company of the demo."""
