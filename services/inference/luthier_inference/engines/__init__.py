"""Engines behind one port: our own processes, vLLM, text-generation-inference; without torch."""
