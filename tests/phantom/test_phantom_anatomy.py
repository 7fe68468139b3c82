"""Geometry of the synthetic heads: what defines each bleed, the scan, noise and stored values."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from src.phantom.artefacts import (
    metal_streaks,
    moved,
    noise_texture,
    ray_errors,
    sample_artefacts,
    starved_noise,
)
from src.phantom.bleeds import Bleed, Epidural, Intraparenchymal, Intraventricular, Subarachnoid, Subdural
from src.phantom.head import sample_head
from src.phantom.plan import PRESETS, make_plan
from src.phantom.scanner import SITES, holder, sample_acquisition, stored_values, wrapped
from src.phantom.study import MASK_SHARE, Study, draw_study, expose, paint_slice

PLAIN = SITES[0]
CLEAN = sample_artefacts(np.random.default_rng(0), slices=24, streaks=0.0, metal=0.0, motion=0.0)


SITE = np.array([64.0, 5.0, 22.0])  # the left side, a little above the ventricles' level
BLEEDS: dict[str, Bleed] = {
    "epidural": Epidural(SITE, 70.0, thickness=16.0, radius=30.0),
    "large epidural": Epidural(SITE, 70.0, thickness=24.0, radius=38.0),
    "subdural": Subdural(SITE, 68.0, thickness=9.0, radius=58.0, falx=0.0, tentorium=0.0),
    "subdural and falx": Subdural(SITE, 68.0, thickness=9.0, radius=58.0, falx=6.0, tentorium=0.0),
    "subarachnoid": Subarachnoid(SITE * 0.9, 66.0, branches=np.empty((0, 3)), radius=40.0, swelling=1.2),
    "intraparenchymal": Intraparenchymal(
        np.array([30.0, 0.0, 22.0]), 70.0, np.array([13.0, 13.0, 13.0]), rim=5.0
    ),
    "intraventricular": Intraventricular(np.zeros(3), 66.0, levels=(40.0, 40.0), third=False, fourth=False),
}


def study_with(bleeds: list[Bleed], seed: int = 0) -> Study:
    """A head with the given bleeds and nothing else, scanned in 24 slices of 160 pixels."""
    rng = np.random.default_rng(seed)
    head = replace(sample_head(rng), ventricle=1.3, skull=7.0, brain_offset=0.0, cupping=3.0, sulcus=0.8)
    acquisition = sample_acquisition(
        rng, head, PLAIN, size=160, slices=24, limits=(20, 34), noise=(3.0, 4.0), repeated=False
    )
    return Study(head, bleeds, [], acquisition, holder(rng, acquisition), CLEAN)


@cache
def painted(name: str, seed: int = 0) -> tuple[Study, list, np.ndarray]:
    """Every slice of a study with one of BLEEDS, and its mask (slices, rows, columns)."""
    bleed = BLEEDS[name]
    study = study_with([bleed], seed)
    slices = [paint_slice(study, index) for index in range(study.acquisition.slices)]
    return study, slices, np.stack([blood[bleed.label] >= MASK_SHARE for _, blood, _ in slices])


def millimetres(study: Study) -> float:
    return study.acquisition.pixel * study.acquisition.size / study.acquisition.grid


def head_x(study: Study, index: int, mask: np.ndarray) -> np.ndarray:
    """x in head coordinates of the pixels of a mask of one slice."""
    acquisition, pixel = study.acquisition, millimetres(study)
    rows, columns = np.nonzero(mask)
    place = acquisition.position(index) + np.outer(columns * pixel, acquisition.row)
    place = place + np.outer(rows * pixel, acquisition.column)
    return ((place - acquisition.center) @ acquisition.rotation)[:, 0]


def largest(mask: np.ndarray) -> int:
    return int(mask.sum(axis=(1, 2)).argmax())


def solidity(mask: np.ndarray) -> float:
    """Area over the area of the convex hull: near 1 for a lens, small for a crescent."""
    points = np.argwhere(mask).astype(np.float32)
    corners = np.concatenate([points + np.float32(shift) for shift in ((0, 0), (0, 1), (1, 0), (1, 1))])
    return float(mask.sum() / cv2.contourArea(cv2.convexHull(corners)))


def share_thicker_than_a_sulcus(mask: np.ndarray) -> float:
    """Share of a mask (slices, rows, columns) that a disc of 11 mm can cover without leaving it."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    covered = [cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_OPEN, disc) for part in mask]
    return float(np.sum(covered) / mask.sum())


def share_at_skull(mask: np.ndarray, cavity: np.ndarray) -> float:
    """Share of a mask's pixels within 4 mm (2 pixels here and there) of the skull."""
    margin = cavity & ~cv2.erode(cavity.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    return float((mask & margin).sum() / mask.sum())


def test_epidural_is_a_lens_on_the_skull():
    study, slices, mask = painted("epidural")
    k = largest(mask)
    inside = slices[k][2] >= 0.5
    assert solidity(mask[k]) > 0.88
    assert share_at_skull(mask[k], inside) > 0.2
    length = max(np.ptp(np.argwhere(mask[k]), axis=0)) * millimetres(study)
    assert 35 < length <= 2 * 30.0 + 4  # bounded by its radius


def test_epidural_bulges_towards_the_brain_beyond_the_chord_of_the_skull():
    """Biconvex: in the middle it is thicker than the skull's own curvature would make a segment."""
    _, _, mask = painted("epidural")
    k = largest(mask)
    points = np.argwhere(mask[k])
    top, bottom = points[points[:, 0].argmin()], points[points[:, 0].argmax()]
    middle = (top + bottom) / 2
    row = round(middle[0])
    columns = points[points[:, 0] == row][:, 1]
    assert (
        columns.min() < middle[1] - 1.5 and columns.max() > middle[1] + 0.5
    )  # the head's left is to the right


def test_subdural_is_a_crescent_longer_than_a_suture_would_allow_on_one_side():
    study, _, mask = painted("subdural")
    k = largest(mask)
    assert solidity(mask[k]) < 0.75
    length = np.linalg.norm(np.ptp(np.argwhere(mask[k]), axis=0)) * millimetres(study)
    assert length > 75  # past the coronal and the lambdoid suture
    for index in range(len(mask)):
        assert (head_x(study, index, mask[index]) > -3).all()


def test_subdural_may_line_the_falx_on_its_own_side():
    study, _, mask = painted("subdural and falx")
    _, _, without = painted("subdural")
    extra = mask & ~without
    x = np.concatenate([head_x(study, k, extra[k]) for k in range(len(extra))])
    assert len(x) > 50 and np.percentile(np.abs(x), 95) < 10 and np.mean(x > -1) > 0.95


def test_subarachnoid_blood_takes_the_place_of_csf_and_is_thin():
    _, slices, mask = painted("subarachnoid")
    clear = replace(BLEEDS["subarachnoid"], hu=6.0)  # the same spaces filled with CSF
    before = [paint_slice(study_with([clear]), k)[0] for k in range(len(mask))]
    hu = np.concatenate([before[k][mask[k] & (slices[k][2] > 0.99)] for k in range(len(mask))])
    assert len(hu) > 300 and np.percentile(hu, 90) < 25
    assert share_thicker_than_a_sulcus(mask) < 0.3
    assert share_thicker_than_a_sulcus(painted("epidural")[2]) > 0.6


def test_intraparenchymal_blood_is_a_ball_in_the_brain_with_a_dark_rim():
    _, slices, mask = painted("intraparenchymal")
    before = study_with([])
    k = largest(mask)
    inside = slices[k][2] >= 0.5
    assert solidity(mask[k]) > 0.85 and share_at_skull(mask[k], inside) == 0
    grown = [cv2.dilate(mask[k].astype(np.uint8), np.ones((n, n), np.uint8)) for n in (5, 7)]
    ring = (grown[1] > grown[0]) & inside
    hu = slices[k][0]
    assert hu[mask[k]].mean() > 60
    assert hu[ring].mean() < paint_slice(before, k)[0][ring].mean() - 1.5


def test_intraventricular_blood_lies_in_the_dependent_part_of_the_ventricles():
    _, slices, mask = painted("intraventricular")
    before = [paint_slice(study_with([]), k)[0] for k in range(len(mask))]
    hu = np.concatenate([before[k][mask[k]] for k in range(len(mask))])
    assert mask.sum() > 60 and np.percentile(hu, 75) < 22  # CSF without the bleed
    k = largest(mask)
    csf = (before[k] < 15) & (slices[k][2] > 0.99) & ~mask[k]
    csf &= cv2.dilate(mask[k].astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool)
    assert np.argwhere(mask[k])[:, 0].mean() > np.argwhere(csf)[:, 0].mean() + 3  # behind: larger row


def test_blood_is_brighter_than_brain_and_darker_than_bone():
    for name in ("epidural", "subdural", "intraparenchymal"):
        _, slices, mask = painted(name)
        k = largest(mask)
        core = cv2.erode(mask[k].astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        assert np.median(slices[k][0][core]) == pytest.approx(BLEEDS[name].hu, abs=4)


def test_a_mass_shifts_the_midline_away_from_it():
    with_mass, without = study_with([BLEEDS["large epidural"]]), study_with([])
    k = largest(painted("large epidural")[2])

    def ventricle_column(study: Study) -> float:
        hu, _, inside = paint_slice(study, k)
        middle = np.argwhere((hu < 15) & (inside > 0.99))[:, 1]
        return float(np.median(middle))

    assert ventricle_column(with_mass) < ventricle_column(without)


# the drawn studies


@pytest.mark.parametrize("recipe", [("epidural",), ("subdural",), ("subarachnoid",), ("intraventricular",)])
def test_every_drawn_bleed_is_large_enough_to_be_labelled(recipe):
    preset = PRESETS["demo"]
    plan = make_plan(preset, 20, seed=8, size=96, slices=20)
    for index in range(4):
        study = draw_study(replace(plan[index], recipe=recipe, faults={}), preset)
        pixel = millimetres(study)
        masks = [paint_slice(study, k)[1][recipe[0]] >= MASK_SHARE for k in range(20)]
        volumes = np.array([mask.sum() * pixel**2 * study.acquisition.step / 1000 for mask in masks])
        assert (volumes >= preset.label_ml).sum() >= 2


def test_studies_of_one_patient_share_the_head_but_not_the_scan():
    preset = PRESETS["demo"]
    plans = make_plan(preset, 40, seed=1, size=96, slices=20)
    patients = [plan.patient_id for plan in plans]
    twice = next(p for p in patients if patients.count(p) > 1)
    one, other, *_ = [draw_study(plan, preset) for plan in plans if plan.patient_id == twice]
    assert one.head.half_length == other.head.half_length and np.array_equal(one.head.floor, other.head.floor)
    assert not np.array_equal(one.acquisition.rotation, other.acquisition.rotation)


# the scan


def test_slices_follow_the_normal_of_a_tilted_gantry_by_the_step():
    acquisition = study_with([]).acquisition
    tilted = replace(acquisition, tilt=np.deg2rad(18.0))
    normal = np.cross(tilted.row, tilted.column)
    assert normal == pytest.approx([0, np.sin(np.deg2rad(18.0)), np.cos(np.deg2rad(18.0))])
    assert (tilted.position(5) - tilted.position(4)) @ normal == pytest.approx(tilted.step)
    assert (tilted.position(5) - tilted.position(4))[:2].tolist() == [0, 0]


def test_arrays_stay_single_precision():
    study = study_with([*BLEEDS.values()])
    hu, blood, inside = paint_slice(study, 12)
    assert {hu.dtype, inside.dtype, *(share.dtype for share in blood.values())} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("sharpness", "correlation"), [(0.0, (0.77, 0.36, 0.07)), (1.0, (0.65, 0.12, -0.10))]
)
def test_noise_has_unit_variance_and_the_correlation_of_its_kernel(sharpness, correlation):
    noise = noise_texture(np.random.default_rng(0), 256, 0.488, sharpness)
    assert noise.mean() == pytest.approx(0, abs=0.02) and noise.std() == pytest.approx(1, abs=0.03)
    for lag, expected in enumerate(correlation, start=1):
        assert np.mean(noise[:, :-lag] * noise[:, lag:]) == pytest.approx(expected, abs=0.06)
    assert np.mean(noise**4) == pytest.approx(3, abs=0.25)  # kurtosis of a normal deviate


def test_noise_in_the_head_has_the_stated_strength_and_is_weaker_in_air():
    acquisition = study_with([]).acquisition
    head = np.full((160, 160), -1000.0, np.float32)
    head[29:131, 29:131] = 30.0  # 102^2 of 160^2 pixels: the mean load of a head, 420 HU above air
    image = expose(acquisition, head, np.random.default_rng(0)) - head
    middle, air = image[56:104, 56:104], image[:24]
    assert middle.std() == pytest.approx(1.07 * acquisition.noise, rel=0.06)
    assert 0.45 * middle.std() < air.std() < 0.8 * middle.std()


def test_a_base_slice_is_noisier_than_one_at_the_vertex():
    acquisition = study_with([]).acquisition
    flat = [np.full((160, 160), hu, np.float32) for hu in (-350.0, -850.0)]
    base, vertex = (expose(acquisition, hu, np.random.default_rng(0)).std() for hu in flat)
    assert base / vertex == pytest.approx(1.25 / 0.7, rel=0.02)  # the limits of tube modulation


def petrous_slice() -> np.ndarray:
    """A disc of brain with two blocks of bone beside each other, (256, 256) HU, pixels of 1 mm."""
    y, x = np.mgrid[:256, :256] - 127.5
    hu = np.where(np.hypot(x, y) < 85, np.float32(30.0), np.float32(-1000.0))
    hu[(np.abs(np.abs(x) - 45) < 25) & (np.abs(y) < 8)] = 1300.0
    return hu


def test_beam_hardening_darkens_the_bar_between_dense_bones_and_little_else():
    error = ray_errors(petrous_slice(), 1.0, hardening=1.0, noise=0.0)
    assert error[120:136, 120:136].mean() < -1.0
    assert abs(error[60:80, 118:138].mean()) < 0.5 and abs(error[176:196, 118:138].mean()) < 0.5


def test_beam_hardening_is_proportional_to_its_strength_and_absent_without_bone():
    hu = petrous_slice()
    once, thrice = (ray_errors(hu, 1.0, strength, noise=0.0) for strength in (1.0, 3.0))
    assert np.allclose(thrice, 3 * once, atol=1e-3)
    assert not ray_errors(np.minimum(hu, 60.0), 1.0, hardening=3.0, noise=0.0).any()


def test_starved_rays_make_streaks_along_the_bones_only():
    error = ray_errors(petrous_slice(), 1.0, 0.0, starved_noise(np.random.default_rng(0), 10.0))
    assert error[124:132, 100:156].std() > 4 * error[50:70, 100:156].std()


def test_motion_blurs_but_leaves_the_anatomy_in_place():
    hu = petrous_slice()
    blurred = moved(hu, np.array([0.0, 3.0]), 0.0, 0.4)
    assert blurred[0, 0] == hu[0, 0] and blurred[128, 128] == pytest.approx(hu[128, 128])
    edge = np.flatnonzero(hu[90] > -500)[
        0
    ]  # the left border of the disc moves away by 3 pixels with weight .4
    assert blurred[90, edge] == pytest.approx(30.0 * 0.6 - 1000.0 * 0.4, abs=1)


def test_metal_makes_rays_of_both_signs_that_fade_with_distance():
    streaks = metal_streaks(np.random.default_rng(0), (256, 256), np.array([[40.0, 128.0]]), 1.0, 100.0)
    near, far = (streaks[40 + shift, 60:200] for shift in (30, 150))
    assert near.min() < -15 and near.max() > 15 and near.std() > 2 * far.std()
    assert streaks[40, 128] > 2000


@pytest.mark.parametrize("site", SITES, ids=lambda site: f"{site.bits}-{int(site.signed)}-{site.intercept}")
def test_stored_values_give_back_the_hu(site):
    hu = np.array([[-1000.4, -500.0, 0.0], [39.6, 300.0, 2000.0]])
    outside = np.array([[True, False, False], [False, False, False]])
    values = stored_values(hu, site, outside)
    decoded = values.astype(int) + site.intercept
    assert decoded[~outside].tolist() == [-500, 0, 40, 300, 2000]
    assert decoded[0, 0] == (-3024 if site.padded else -1000)
    assert values.dtype == (np.int16 if site.signed else np.uint16)
    assert site.signed or values.max() < 2**site.bits


def test_wrapped_values_are_those_of_the_known_defect():
    """HU -1000, -1, 0, 40, 3095 are stored as 3096, 4095, 0, 40, 3095, whatever the intercept says."""
    hu = np.array([[-1000.0, -1.0, 0.0, 40.0, 3095.0]])
    for intercept in (0, 1):
        values = stored_values(hu, wrapped(PLAIN, intercept), np.zeros((1, 5), bool))
        assert values.tolist() == [[3096, 4095, 0, 40, 3095]]


def test_extreme_hu_are_clipped_to_what_twelve_bits_hold():
    twelve = next(site for site in SITES if site.bits == 12 and site.intercept == -1024 and not site.signed)
    values = stored_values(np.array([[-5000.0, 9000.0]]), twelve, np.zeros((1, 2), bool))
    assert values.tolist() == [[0, 4095]]
