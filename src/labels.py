"""The six labels of the RSNA 2019 data set, their order (that of the contest's CSV) and their weights."""

LABELS = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
SUBTYPES = LABELS[:-1]

# The contest's metric: `any` counts twice, the sum is divided by 7.
LABEL_WEIGHTS = {label: 2.0 if label == "any" else 1.0 for label in LABELS}
WEIGHT_SUM = sum(LABEL_WEIGHTS.values())
