"""Stage 1 end to end: runs of adjacent slices, whose encoder and context are trained together."""
