"""The page of one study, and the maps on it."""
