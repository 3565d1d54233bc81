"""What can be wrong with rows: checks of single rows, duplicates among all, the report."""
