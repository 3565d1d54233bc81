"""`luthier demo`: from a company's documents to a tuned model that answers, before your eyes."""
