"""OpenAI's files, fine-tuning, models and chat API, put into calls of the platform."""
