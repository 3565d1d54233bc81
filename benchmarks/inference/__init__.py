"""The engine and the whole way to it, measured beside who else serves adapters."""
