"""Everything between a file on disk and a tensor of Hounsfield units."""
