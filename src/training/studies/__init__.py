"""Stage 2: batches of studies, their inputs, what a fold does from configuration to run folder."""
