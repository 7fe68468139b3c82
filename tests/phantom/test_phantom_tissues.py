"""What is drawn beside blood in the synthetic heads: face, skull, mimics, and where each of them lies."""

from dataclasses import replace

import numpy as np
import pytest

from src.phantom.artefacts import sample_artefacts
from src.phantom.head import sample_head
from src.phantom.mimics import Calcification, Infarct, Mimic, Vessel, sample_infarcts, sample_swelling
from src.phantom.scanner import SITES, Acquisition, sample_acquisition
from src.phantom.study import Study, paint_slice

GRID = 160


def plain_study(mimics: list[Mimic] = (), swelling: np.ndarray | None = None) -> Study:
    """A head without bleeds, scanned upright in 40 slices of 160 pixels, in air."""
    rng = np.random.default_rng(3)
    head = replace(sample_head(rng), sulcus=0.8, leukoaraiosis=0.0, face=np.zeros(16))
    if swelling is not None:
        head = replace(head, swelling=swelling)
    acquisition = sample_acquisition(
        rng, head, SITES[0], size=GRID, slices=40, limits=(20, 60), noise=(3.0, 4.0), repeated=False
    )
    still = sample_artefacts(rng, 40, streaks=0.0, metal=0.0, motion=0.0)
    return Study(head, [], list(mimics), acquisition, np.full((GRID, GRID), -1000.0, np.float32), still)


def pixel_of(acquisition: Acquisition, point: list[float]) -> tuple[int, int, int]:
    """Slice, row and column nearest to a point in head coordinates."""
    places = [acquisition.image_position(np.array([point]), k)[0] for k in range(acquisition.slices)]
    index = int(np.argmin([abs(place[2]) for place in places]))
    pixel = acquisition.pixel * acquisition.size / acquisition.grid
    return index, round(places[index][0] / pixel), round(places[index][1] / pixel)


def hu_at(study: Study, point: list[float]) -> float:
    index, row, column = pixel_of(study.acquisition, point)
    return float(paint_slice(study, index)[0][row - 1 : row + 2, column - 1 : column + 2].mean())


def test_the_face_has_air_bone_muscle_and_fat_in_their_places():
    study = plain_study()
    assert hu_at(study, [0, -18, -68]) < -700  # nasopharynx
    assert hu_at(study, [29, -58, -58]) < -700  # maxillary sinus
    assert hu_at(study, [0, -14, -44]) > 250  # body of the sphenoid
    assert hu_at(study, [60, -30, -30]) == pytest.approx(54 + study.head.muscle, abs=4)  # temporal muscle
    wide, long = study.head.half_width / 66, study.head.half_length / 83
    assert hu_at(study, [32 * wide + 0.7, -62 * long + 6, -33]) < 0  # fat beside the optic nerve


def test_the_skull_is_of_ordinary_thickness_and_uneven():
    """3 to 10 mm in 19 of 20 directions at the level of the ventricles."""
    study = plain_study()
    index, row, column = pixel_of(study.acquisition, [0, 0, 25])
    hu = paint_slice(study, index)[0]
    pixel = study.acquisition.pixel * study.acquisition.size / study.acquisition.grid
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    reach = np.arange(0, 110, 0.5) / pixel
    rows = (row + np.outer(np.sin(angles), reach)).round().astype(int).clip(0, GRID - 1)
    columns = (column + np.outer(np.cos(angles), reach)).round().astype(int).clip(0, GRID - 1)
    thickness = 0.5 * (hu[rows, columns] > 400).sum(axis=1)
    assert np.mean((thickness >= 3) & (thickness <= 10)) >= 0.95
    assert thickness.std() > 0.5


def test_an_infarct_is_dark_and_brightens_nothing():
    site = np.array([35.0, 5.0, 30.0])
    study, with_it = (
        plain_study(),
        plain_study([Infarct("infarct", site, 10.0, np.array([12.0, 12.0, 12.0]))]),
    )
    assert hu_at(with_it, site.tolist()) == pytest.approx(10, abs=2)
    index = pixel_of(study.acquisition, site.tolist())[0]
    assert (paint_slice(with_it, index)[0] <= paint_slice(study, index)[0] + 1e-3).all()


def test_a_dense_vessel_and_a_calcification_are_brighter_than_brain_and_small():
    site, stop = np.array([0.0, 10.0, 30.0]), np.array([0.0, 10.0, 50.0])
    for mimic in (
        Vessel("artery", site, 60.0, stop, 3.0),
        Calcification("pineal", (site + stop) / 2, 90.0, np.array([3.0, 3.0, 10.0]), 0.0),
    ):
        study, with_it = plain_study(), plain_study([mimic])
        index = pixel_of(study.acquisition, [0, 10, 40])[0]
        change = paint_slice(with_it, index)[0] - paint_slice(study, index)[0]
        assert change.max() > 15 and 1 <= (np.abs(change) > 5).sum() < 30


def test_swelling_of_the_scalp_lies_outside_the_skull():
    place = sample_head(np.random.default_rng(3)).inner_surface(np.array([1.0, 0.2, 0.3])) * 1.13
    swollen = plain_study(swelling=np.array([*place, 8.0, 18.0]))
    study = plain_study()
    index = pixel_of(study.acquisition, place.tolist())[0]
    (before, _, inside), (after, _, same) = paint_slice(study, index), paint_slice(swollen, index)
    change = np.abs(after - before) > 5
    assert change.sum() > 50 and not (change & (inside > 0.01)).any()
    assert np.array_equal(inside, same)


def test_infarcts_come_with_age_and_swelling_with_trauma():
    rng = np.random.default_rng(0)
    head = sample_head(rng)
    young, old = (replace(head, sulcus=sulcus) for sulcus in (0.3, 1.6))
    counts = [sum(len(sample_infarcts(rng, h, 1.0)) for _ in range(200)) for h in (young, old)]
    assert counts[1] > 2 * counts[0]
    shares = [np.mean([sample_swelling(rng, head, 1.0, b)[3] > 0 for _ in range(400)]) for b in (False, True)]
    assert shares == pytest.approx([0.18, 0.3], abs=0.06)
