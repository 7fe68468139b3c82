"""The one training loop and what a step of it needs; it knows no task."""
