"""Speed and size of the dataset service, beside the programs that people would use otherwise."""
