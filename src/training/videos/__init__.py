"""Stage 1 on studies: frames drawn from a study -> the targets of the study."""
