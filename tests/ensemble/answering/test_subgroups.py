"""Kinds of images and what is reached in each, by hand."""

import numpy as np
import pandas as pd
import pytest

from src.ensemble.answering.answers import Answer
from src.ensemble.answering.subgroups import kinds_of, subgroup_scores
from src.ensemble.answering.transfer import Truth, labelled
from src.labels import LABELS
from src.report.transfer_page import evaluation_page

IDS = [f"i{k}" for k in range(8)]
SLICES = pd.DataFrame(
    {
        "image_id": IDS,
        "study_id": ["a", "a", "a", "b", "c", "c", "d", "d"],
        "step_mm": [5.0, 5.0, 20.0, np.nan, -0.6, -0.6, 0.625, 0.625],
        "padded": [True, True, True, None, False, False, False, False],
        "bits_stored": [16, 16, 16, 16, 16, 16, 16, None],
        "pixel_representation": 1,
        "rescale_intercept": [-1024.0] * 6 + [0.0, 0.0],
    }
)


class Data:
    slices = SLICES


def truth_and_answer():
    """True labels get .9 where slices are far apart, .6 elsewhere."""
    labels = pd.DataFrame(np.tile([[1.0], [0.0]], (4, 6)), IDS, list(LABELS))
    right = np.where(SLICES["study_id"] == "a", 0.9, 0.6)[:, None]
    p = labels * (2 * right - 1) + (1 - right)
    patients = pd.Series(IDS, IDS)
    studies = SLICES.set_index("image_id")["study_id"]
    return Truth(labelled(labels, patients, by_study=False), None, studies), Answer.of(p, [p], studies)


def test_an_image_has_the_median_step_of_its_study_whether_it_is_padded_and_its_format():
    kinds = kinds_of(SLICES)
    thick, thin = "2.5 to 5.5 mm", "up to 2.5 mm"
    assert kinds["slice step"].fillna("").tolist() == [thick] * 3 + [""] + [thin] * 4
    assert kinds["padding"].fillna("").tolist() == ["padded"] * 3 + [""] + ["not padded"] * 4
    first, other = (f"16 bits, signed, intercept {k}" for k in (-1024, 0))
    assert kinds["scanner format"].fillna("").tolist() == [first] * 6 + [other, ""]


def test_every_group_has_its_loss_and_its_own_baseline():
    found = {(one["by"], one["group"]): one for one in subgroup_scores(Data, *truth_and_answer())}
    thick = found["slice step", "2.5 to 5.5 mm"]
    assert thick["images"] == thick["patients"] == 3 and thick["any"]["positives"] == 2
    assert thick["weighted_log_loss"]["value"] == pytest.approx(-np.log(0.9))
    assert thick["baseline"] == pytest.approx(-(2 * np.log(2 / 3) + np.log(1 / 3)) / 3)
    thin = found["slice step", "up to 2.5 mm"]
    assert thin["weighted_log_loss"]["value"] == pytest.approx(-np.log(0.6)) and thin["images"] == 4
    assert found["padding", "padded"]["any"]["auc"] == 1


def test_a_kind_that_all_images_share_is_left_out():
    class Same:
        slices = SLICES.assign(padded=True, step_mm=5.0, bits_stored=16, rescale_intercept=0.0)

    assert subgroup_scores(Same, *truth_and_answer()) == []


def test_the_page_has_a_row_a_group():
    truth, answer = truth_and_answer()
    scores = truth.scores(answer) | {"baseline": {"images": truth.slices.baseline, "studies": None}}
    scores |= {"subgroups": subgroup_scores(Data, truth, answer), "comparisons": []}
    scores |= {"trained_on_synthetic": False}
    html = evaluation_page("tiny", "table.csv", scores)
    assert "By subgroup" in html and "slice step: 2.5 to 5.5 mm" in html and "3 (3)" in html
    assert "table.csv" in html and "0.6931" in html  # the prevalence of one half
    assert "By subgroup" not in evaluation_page("tiny", "table.csv", scores | {"subgroups": []})
    assert "SYNTHETIC" not in html
    assert "SYNTHETIC" in evaluation_page("tiny", "table.csv", scores | {"trained_on_synthetic": True})
