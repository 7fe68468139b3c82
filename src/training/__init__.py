"""Data sets, losses, the engine and run folders."""
