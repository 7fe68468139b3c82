"""The report of an experiment, and what step 5 leaves behind."""
