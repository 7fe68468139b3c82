"""Distances between data sets: known numbers on drawn images, none between two halves of a set."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest

from src.audit import realism
from src.audit.realism import Sample, area, compare, held_out
from src.audit.slice_statistics import find_regions, slice_statistics
from src.data.phantom import generate
from src.errors import UserError

PIXEL = 0.5


def head(noise: float = 0.0, blur: float = 0.0, seed: int = 0) -> np.ndarray:
    """(400, 400) int16 HU: brain of 30 HU, radius 75 mm, skull of 1000 HU and 6 mm, scalp of 8 mm, air."""
    y, x = np.mgrid[:400, :400]
    radius = np.hypot(x - 200, y - 200) * PIXEL
    hu = np.select([radius < 75, radius < 81, radius < 89], [30.0, 1000.0, 0.0], -1000.0)
    if blur:
        hu = cv2.GaussianBlur(hu, (0, 0), blur / PIXEL)
    white = np.random.default_rng(seed).normal(0, noise, hu.shape)
    return np.rint(hu + white).astype(np.int16)


def statistics(hu: np.ndarray) -> dict[str, float]:
    return slice_statistics(hu, PIXEL, find_regions(hu, PIXEL))


def test_a_drawn_head_has_the_numbers_it_was_drawn_with():
    found = statistics(head(noise=4.0))
    assert found["skull_mm"] == pytest.approx(6, abs=0.5) and found["scalp_mm"] == pytest.approx(8, abs=0.5)
    assert found["brain_mean_hu"] == pytest.approx(30, abs=0.2)
    assert found["air_share"] == pytest.approx(1 - np.pi * 89**2 / 200**2, abs=0.01)
    assert found["noise_sd_hu"] == pytest.approx(4, rel=0.08)
    assert abs(found["noise_correlation_1px"]) < 0.05
    assert found["padded_share"] == found["csf_share"] == found["bright_share"] == 0


def test_the_width_of_an_edge_is_that_of_its_blur():
    """10 to 90 % of an edge blurred by a Gaussian are 2.56 standard deviations."""
    for sigma in (0.8, 1.2):
        found = statistics(head(blur=sigma))
        assert found["skull_edge_mm"] == pytest.approx(2.563 * sigma, rel=0.12)
        assert found["skin_edge_mm"] == pytest.approx(2.563 * sigma, rel=0.12)


def test_correlated_noise_shows_its_correlation():
    white = np.random.default_rng(1).normal(0, 1, (400, 400))
    pairs = (white + np.roll(white, 1, 0) + np.roll(white, 1, 1) + np.roll(white, (1, 1), (0, 1))) * 2.5
    found = statistics((head() + pairs).astype(np.int16))
    assert found["noise_sd_hu"] == pytest.approx(5, rel=0.1)
    assert found["noise_correlation_1px"] == pytest.approx(0.5, abs=0.07)
    assert abs(found["noise_correlation_2px"]) < 0.1  # the plane that is taken out


def test_an_open_skull_has_no_inside_and_a_blank_slice_no_head():
    opened = head(noise=3.0)
    opened[200:, 170:230] = 0
    found = statistics(opened)
    assert np.isnan(found["noise_sd_hu"]) and np.isnan(found["brain_mean_hu"])
    assert find_regions(np.full((400, 400), -1000, np.int16), PIXEL) is None


def test_padding_is_air_and_a_share_of_its_own():
    padded = head()
    padded[:100] = -3024
    assert statistics(padded)["padded_share"] == 0.25


def test_held_out_scores_come_from_other_patients():
    y = np.arange(40) % 2 == 0
    patients = np.repeat(np.arange(20), 2).astype(str)
    seen = []

    def fit(train):
        def predict(test):
            assert not set(patients[train]) & set(patients[test])
            seen.extend(test)
            return np.zeros(len(test))

        return predict

    held_out(y, patients, 0, fit)
    assert sorted(seen) == list(range(40))


def test_an_area_has_the_sign_of_the_difference():
    y, patients = np.array([True] * 10 + [False] * 10), np.arange(20).astype(str)
    assert area(y, np.r_[np.ones(10), np.zeros(10)], patients)["auc"] == 1
    assert area(y, np.r_[np.zeros(10), np.ones(10)], patients)["auc"] == 0
    assert area(y[:10], np.ones(10), patients[:10])["auc"] is None


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    """Two sets of the demo preset, and one of them with twice the noise and brighter brain."""
    folder = tmp_path_factory.mktemp("realism")
    for name, seed in (("first", 21), ("second", 22)):
        generate(folder / name / "raw", studies=14, seed=seed, size=128, slices=12)
    rng = np.random.default_rng(0)
    for path in sorted((folder / "second" / "raw").glob("stage_2_*/*.dcm")):
        file = pydicom.dcmread(path)
        if len(file.PixelData) == 2 * 128 * 128:
            noisy = file.pixel_array + rng.normal(6, 8, (128, 128))
            limits = np.iinfo(file.pixel_array.dtype)
            values = np.clip(np.rint(noisy), max(limits.min, -2000), min(limits.max, 4095))
            file.PixelData = values.astype(file.pixel_array.dtype).tobytes()
        target = folder / "noisy" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.save_as(target, enforce_file_format=False)
    return {"first": folder / "first" / "raw", "second": folder / "second" / "raw", "noisy": folder / "noisy"}


def test_two_sets_of_one_generator_cannot_be_told_apart(sets, monkeypatch):
    monkeypatch.setattr(realism, "EPOCHS", 2)
    result = compare(sets["first"], sets["second"], slices=120)
    assert result["critics"]["statistics"]["auc"] == pytest.approx(0.5, abs=0.17)
    assert (
        result["histogram"]["wasserstein_hu"]["distance"]
        < 2 * result["histogram"]["wasserstein_hu"]["floor_95"]
    )
    assert result["synthetic"]["unreadable"] == 1 and result["synthetic"]["studies"] == 14


def test_brighter_and_noisier_images_are_told_apart_and_the_reason_is_named(sets, monkeypatch):
    monkeypatch.setattr(realism, "EPOCHS", 20)
    result = compare(sets["noisy"], sets["first"], slices=120)
    assert result["critics"]["statistics"]["low"] > 0.9
    assert result["critics"]["heads_64px"]["auc"] > 0.75
    assert result["histogram"]["wasserstein_hu"]["distance"] == pytest.approx(6, abs=2.5)
    telling = list(result["statistics"])[:8]
    assert {"band_0.5mm_hu", "brain_mean_hu"} <= set(telling)
    assert result["statistics"]["band_0.5mm_hu"]["auc"] > 0.9
    assert result["statistics"]["brain_mean_hu"]["auc"] > 0.7
    assert result["gives_away"]["regions"][0]["difference_hu"] > 0
    json.dumps(result, allow_nan=False)


def test_the_same_arguments_give_the_same_numbers(sets, monkeypatch):
    monkeypatch.setattr(realism, "EPOCHS", 1)
    first, second = (compare(sets["first"], sets["second"], slices=60) for _ in range(2))
    assert first == second


def test_sets_of_different_sizes_and_folders_without_images_are_refused(sets, tmp_path):
    generate(tmp_path / "raw", studies=10, seed=1, size=96, slices=8)
    with pytest.raises(UserError, match=r"of 96 pixels.*of 128.*--size"):
        compare(tmp_path / "raw", sets["first"], slices=40)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no readable DICOM"):
        Sample(tmp_path / "empty", 10, 1)


def test_the_command_prints_a_table_and_writes_it(sets, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(realism, "EPOCHS", 1)
    out = tmp_path / "realism.json"
    flags = [
        "--synthetic",
        str(sets["first"]),
        "--real",
        str(sets["second"]),
        "--slices",
        "60",
        "--out",
        str(out),
    ]
    monkeypatch.setattr(sys, "argv", ["realism", *flags])
    realism.main()
    text = capsys.readouterr().out
    assert "critic statistics: AUC" in text and "noise_sd_hu" in text
    assert pd.Series(json.loads(out.read_text())["critics"]).index.tolist() == [
        "statistics", "heads_64px", "patches_64px"
    ]  # fmt: skip
