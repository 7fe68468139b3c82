"""Predictions combined: members, weights on the simplex, stacking, what is done after."""
