"""From configuration to run folder: runs, folds, losses; the engine, slices (stage 1), studies (stage 2)."""
