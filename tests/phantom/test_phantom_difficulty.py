"""The synthetic task is not solved by a threshold on HU: mimics and calibration overlap with blood."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from src.phantom.plan import PRESETS, make_plan
from src.phantom.study import CAVITY_SHARE, MASK_SHARE, disturb, draw_study, paint_slice


@pytest.fixture(scope="module")
def volumes() -> tuple[dict[tuple[int, int], np.ndarray], np.ndarray]:
    """Millilitres between two thresholds inside the skull, without noise; whether the slice holds blood."""
    preset = PRESETS["demo"]
    bounds = [(low, high) for low in (45, 50, 55, 60, 65) for high in (85, 110)]
    found, labels = {bound: [] for bound in bounds}, []
    for plan in make_plan(preset, 144, seed=2, size=128, slices=12):
        study, rng = draw_study(plan, preset), np.random.default_rng(plan.index)
        voxel = (study.acquisition.pixel) ** 2 * 5.0 / 1000  # as of 5 mm slices
        for index in range(2, 12):
            hu, blood, inside = paint_slice(study, index)
            hu = disturb(study, index, hu, rng)
            brain = hu[inside >= CAVITY_SHARE]
            if len(brain) * voxel < 15.0:  # below the brain there is nothing to confuse
                continue
            for low, high in bounds:
                found[low, high].append(((brain > low) & (brain < high)).sum() * voxel)
            masks = [((share >= MASK_SHARE) & (inside >= CAVITY_SHARE)).sum() for share in blood.values()]
            labels.append(max(masks, default=0) * voxel >= preset.label_ml)
    return {bound: np.array(volume) for bound, volume in found.items()}, np.array(labels)


def test_no_volume_above_a_threshold_tells_blood_from_its_mimics(volumes):
    """Fitted on the slices it is scored on, without noise and with the true skull as its mask, the best pair
    of thresholds still keeps more than 55 % of the log loss of the constant prevalence."""
    features, labels = volumes
    baseline = log_loss(labels, np.full(len(labels), labels.mean()))
    ratios = {}
    for bound, volume in features.items():
        feature = np.log1p(volume)[:, None]
        model = LogisticRegression(C=100.0).fit(feature, labels)
        ratios[bound] = log_loss(labels, model.predict_proba(feature)[:, 1]) / baseline
    assert min(ratios.values()) > 0.55, ratios
    assert min(ratios.values()) < 0.95  # but blood is bright


def test_many_slices_without_blood_hold_more_bright_tissue_than_slices_with_it(volumes):
    features, labels = volumes
    bright = features[55, 85]
    assert np.quantile(bright[~labels], 0.9) > np.quantile(bright[labels], 0.25)
