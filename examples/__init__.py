"""Example documents and examinations; the scripts that write them."""
