"""Members that know the truth more or less well."""

import numpy as np
import pandas as pd

from src.labels import LABELS


def study(skills: list[float], patients: int = 150, slices: int = 12, seed: int = 0, scale: float = 1.0):
    """Labels, members with logit noise of the given standard deviations, image_id -> patient."""
    rng = np.random.default_rng(seed)
    index = pd.Index([f"ID_{row:05d}" for row in range(patients * slices)], name="image_id")
    groups = pd.Series(np.repeat([f"p{k:03d}" for k in range(patients)], slices), index)
    z = np.repeat(rng.normal(-1.5, 2, (patients, 6)), slices, axis=0) + rng.normal(0, 0.5, (len(index), 6))
    y = pd.DataFrame((rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype("int8"), index, list(LABELS))
    members = {
        f"m{k}": pd.DataFrame(
            1 / (1 + np.exp(-scale * (z + rng.normal(0, sd, z.shape)))), index, list(LABELS)
        )
        for k, sd in enumerate(skills)
    }
    return y, members, groups
