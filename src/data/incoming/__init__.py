"""New studies: from any path to prepared studies, what was left out of them and what is doubtful."""
