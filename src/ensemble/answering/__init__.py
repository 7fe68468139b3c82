"""A trained experiment asked about data it was not trained on: new studies, tables, other data sets."""
