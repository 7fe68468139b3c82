"""Networks: slice encoders and sequence stackers."""
