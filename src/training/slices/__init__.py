"""Stage 1: batches of slices, their augmentation, what a fold does from configuration to run folder."""
