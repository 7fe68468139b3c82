"""From the files of a published data set to a prepared folder: inventory, headers, packs, tables."""
