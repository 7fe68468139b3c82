"""Studies of our own, run by hand and imported by nothing: ablation, difficulty, realism, pictures."""
