"""Metrics with intervals, calibration, blending."""
