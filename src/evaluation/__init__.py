"""Pure functions of labels and predictions: the metric, intervals, calibration, the blend, the submission."""
