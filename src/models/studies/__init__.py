"""Networks and trees on the sequence of a study: contexts, stackers, boosting."""
