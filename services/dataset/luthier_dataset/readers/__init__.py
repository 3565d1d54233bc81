"""Readers turn documents into sections; they run in a child process with limits."""
