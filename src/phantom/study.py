"""Make one synthetic study: draw patient, bleeds and scan, paint and encode the slices, measure the blood."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pandas as pd

from ..labels import LABELS, SUBTYPES
from .artefacts import (
    Artefacts,
    metal_streaks,
    moved,
    noise_map,
    noise_texture,
    ray_errors,
    sample_artefacts,
    starved_noise,
)
from .bleeds import Bleed, Intraventricular
from .head import Fields, Head, measure, sample_head
from .lesions import sample_bleeds
from .mimics import Mimic, sample_mimics, sample_swelling
from .outside import paint_outside
from .plan import Preset, StudyPlan
from .scanner import Acquisition, SliceWriter, holder, sample_acquisition, scan_circle, stored_values, wrapped
from .tissue import Brain, paint_brain

# a pixel of a mask is blood where at least this share of its column through the slice is blood, and so little
# of it is bone that the blood can be seen
MASK_SHARE, CAVITY_SHARE = 0.4, 0.7
TRUNCATED_SHARE = 370_578 / 524_288  # the part of the pixel data that the contest's truncated file lacks


@dataclass(frozen=True)
class Study:
    """A drawn study, before painting. Everything follows from the plan's seeds."""

    head: Head
    bleeds: list[Bleed]
    mimics: list[Mimic]
    acquisition: Acquisition
    background: np.ndarray  # air and head holder, (grid, grid) HU
    artefacts: Artefacts


@dataclass(frozen=True)
class Painted:
    """A finished study: DICOM bytes and labels of every slice, and the truth."""

    files: list[bytes]
    slices: pd.DataFrame  # image_id, study_id, patient_id, split, order, LABELS, ml_<subtype>
    sites: pd.DataFrame  # study_id, kind (bleed or mimic), name, x, y, z (head coordinates, mm), hu
    blood: np.ndarray  # (slices, subtypes, grid, grid) bool
    cavity: np.ndarray  # (slices, grid, grid) bool: inside the skull


def draw_study(plan: StudyPlan, preset: Preset) -> Study:
    """Draw head, bleeds, mimics and scan; studies of one patient share the head and the mimics."""
    patient = np.random.default_rng(plan.patient_seed)
    head = sample_head(patient, preset.head_age)
    mimics = sample_mimics(patient, head, preset.mimics)
    rng = np.random.default_rng(plan.study_seed)
    site = wrapped(plan.site, plan.faults["wrap"]) if "wrap" in plan.faults else plan.site
    head = replace(head, swelling=sample_swelling(rng, head, preset.mimics, bool(plan.recipe)))
    bleeds = sample_bleeds(rng, head, plan.recipe, preset.habits, preset.severity)
    head = replace(head, ventricle=dilated(rng, head.ventricle, bleeds))
    acquisition = sample_acquisition(
        rng,
        head,
        site,
        size=plan.size,
        slices=plan.slices,
        limits=preset.slices,
        noise=preset.noise,
        repeated="zero_step" in plan.faults,
    )
    artefacts = sample_artefacts(rng, acquisition.slices, preset.streaks, preset.metal, preset.motion)
    return Study(head, bleeds, mimics, acquisition, holder(rng, acquisition), artefacts)


def dilated(rng: np.random.Generator, ventricle: float, bleeds: list[Bleed]) -> float:
    """The scale of the ventricles with blood in them: much wider where it fills the third, obstructing it."""
    for bleed in bleeds:
        if isinstance(bleed, Intraventricular):
            return min(ventricle * rng.uniform(*((1.3, 1.7) if bleed.third else (1.0, 1.5))), 2.2)
    return ventricle


def paint_slice(
    study: Study, index: int, skull: bool = True
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """One slice without noise, the mean of a few planes through its thickness; without `skull`: the brain.

    -> HU (grid, grid) float32, share of blood per label present (grid, grid), share of the cranial cavity
    """
    box, slab = study.acquisition.slab(index, study.head)
    hu, inside = study.background.copy(), np.zeros_like(study.background)
    blood = {bleed.label: np.zeros_like(hu) for bleed in study.bleeds}
    fields = measure(study.head, slab)
    planes = paint_outside(study.head, fields, hu[box]) if skull else np.zeros(slab.shape, np.float32)
    part = fields.cranial()
    if part is not None:
        brain, shares = _paint_brain(study, fields.crop(part))
        planes[part] += brain.inside * (brain.hu - planes[part])
        inside[box][part] = brain.inside.mean(axis=0)
        for label, share in shares:
            blood[label][box][part] += share.mean(axis=0)
    hu[box] = planes.mean(axis=0)
    return hu, blood, inside


def _paint_brain(study: Study, fields: Fields) -> tuple[Brain, list[tuple[str, np.ndarray]]]:
    """The brain of one slab with its mimics and bleeds, and the share of every bleed in it."""
    head, bleeds = study.head, study.bleeds
    pushes = [push for bleed in bleeds for push in bleed.pushes()]
    fields = fields.loosened(pushes)
    layers = [layer for bleed in bleeds if (layer := bleed.layer(fields)) is not None]
    swellings = [swelling for bleed in bleeds if (swelling := bleed.widen(fields)) is not None]
    swelling = np.maximum.reduce(swellings) if swellings else 0.0  # blood in one sulcus is blood in it once
    brain = paint_brain(head, fields, sum(layers, 0.0), pushes, swelling)
    for mimic in study.mimics:
        mimic.paint(head, fields, brain)
    for bleed in bleeds:
        bleed.stain(head, fields, brain)
    shares = []
    for bleed in bleeds:
        share = bleed.coverage(head, fields, brain)
        brain.hu += share * (bleed.density(fields, share) - brain.hu)
        shares.append((bleed.label, share))
    return brain, shares


def disturb(study: Study, index: int, hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Motion, beam hardening, starved rays and dental metal of one slice.  (grid, grid) HU -> the same"""
    artefacts, acquisition = study.artefacts, study.acquisition
    pixel = acquisition.pixel * acquisition.size / acquisition.grid
    down, right, turn, share = artefacts.pose[index].tolist()
    if share > 0:
        hu = moved(hu, np.array([down, right]) / pixel, turn, share)
    head = hu > -500.0
    hu = hu + ray_errors(hu, pixel, artefacts.hardening, starved_noise(rng, artefacts.starvation)) * head
    if len(artefacts.teeth):
        place = acquisition.image_position(artefacts.teeth, index)
        near = np.abs(place[:, 2]) < 1.5 * acquisition.step
        if near.any():
            hu += metal_streaks(rng, hu.shape, place[near, :2] / pixel, pixel, artefacts.metal)
    return hu


def expose(acquisition: Acquisition, hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur a slice by the kernel, enlarge it to the stored size, add noise.  (grid, grid) -> (size, size) HU

    The noise of a slice follows what the rays have to cross: more at the skull base, less at the vertex.
    """
    size, pixel = acquisition.size, acquisition.pixel * acquisition.size / acquisition.grid
    blur = 0.85 * (1.3 - acquisition.sharpness) / pixel
    if blur > 0.2:
        hu = cv2.GaussianBlur(hu, (3, 3) if blur < 0.6 else (5, 5), blur)
    # linear: a sharper interpolation would ring at the skull and draw a dark line along the brain
    image = cv2.resize(hu, (size, size), interpolation=cv2.INTER_LINEAR)
    load = float(np.clip(hu, -1000.0, 1500.0).mean()) + 1000.0
    strength = acquisition.noise * float(np.clip((load / 420.0) ** 0.5, 0.7, 1.25))
    texture = noise_texture(rng, size, acquisition.pixel, acquisition.sharpness, strength)
    return cv2.accumulateProduct(texture, noise_map(size, acquisition.pixel), image)


def paint_study(plan: StudyPlan, preset: Preset) -> Painted:
    """Draw, paint and encode one study; faults as the plan says: last slices blank, middle one truncated."""
    cv2.setNumThreads(1)
    study = draw_study(plan, preset)
    acquisition = study.acquisition
    noise = np.random.default_rng((*plan.study_seed, 1))
    writer = SliceWriter(acquisition, plan.patient_id, plan.study_id, plan.series_id)
    count, grid = acquisition.slices, acquisition.grid
    blood = np.zeros((count, len(SUBTYPES), grid, grid), bool)
    cavity = np.zeros((count, grid, grid), bool)
    image_ids = [plan.image_id(index) for index in range(count)]
    outside = scan_circle(acquisition.size)
    first_blank = count - plan.faults.get("blank", 0)
    files = []
    for index, image_id in enumerate(image_ids):
        if index < first_blank:
            hu, shares, inside = paint_slice(study, index)
            image = expose(acquisition, disturb(study, index, hu, noise), noise)
            cavity[index] = inside >= CAVITY_SHARE
            _mask(blood[index], shares, cavity[index])
        else:
            image = np.full((acquisition.size, acquisition.size), -1000.0, np.float32)
        files.append(writer.encode(image_id, index, stored_values(image, acquisition.site, outside)))
    if "truncated" in plan.faults:
        files[count // 2] = files[count // 2][: -int(acquisition.size**2 * 2 * TRUNCATED_SHARE)]
    slices = _slice_table(plan, preset, acquisition, image_ids, blood)
    return Painted(files, slices, _site_table(plan, study), blood, cavity)


def label_study(plan: StudyPlan, preset: Preset, study: Study) -> pd.DataFrame:
    """The slice table of `paint_study` without its images, which take most of the time."""
    count, grid = study.acquisition.slices, study.acquisition.grid
    blood = np.zeros((count, len(SUBTYPES), grid, grid), bool)
    for index in range(count - plan.faults.get("blank", 0)) if study.bleeds else ():
        _, shares, inside = paint_slice(study, index, skull=False)
        _mask(blood[index], shares, inside >= CAVITY_SHARE)
    return _slice_table(plan, preset, study.acquisition, [plan.image_id(i) for i in range(count)], blood)


def _mask(blood: np.ndarray, shares: dict[str, np.ndarray], cavity: np.ndarray) -> None:
    """Fill a slice's masks, (subtypes, grid, grid) bool, from the shares of blood in its pixels."""
    for label, share in shares.items():
        blood[SUBTYPES.index(label)] = (share >= MASK_SHARE) & cavity


def _slice_table(
    plan: StudyPlan, preset: Preset, acquisition: Acquisition, image_ids: list[str], blood: np.ndarray
) -> pd.DataFrame:
    pixel = acquisition.pixel * acquisition.size / acquisition.grid
    pixels = np.array([[np.count_nonzero(mask) for mask in masks] for masks in blood])
    volumes = pixels * (pixel**2 * acquisition.thickness[:, None] / 1000.0)  # millilitres
    labels = (volumes >= preset.label_ml).astype(int)
    columns = {"image_id": image_ids, "study_id": plan.study_id, "patient_id": plan.patient_id}
    columns |= {"split": plan.split, "order": np.arange(len(image_ids))}
    columns |= {label: labels[:, k] for k, label in enumerate(SUBTYPES)} | {"any": labels.max(axis=1)}
    columns |= {f"ml_{label}": volumes[:, k].round(4) for k, label in enumerate(SUBTYPES)}
    table = pd.DataFrame(columns)
    assert tuple(table.columns[5:11]) == LABELS
    return table


def _site_table(plan: StudyPlan, study: Study) -> pd.DataFrame:
    rows = [("bleed", bleed.label, *bleed.site.tolist(), bleed.hu) for bleed in study.bleeds]
    rows += [("mimic", mimic.name, *mimic.site.tolist(), mimic.hu) for mimic in study.mimics]
    table = pd.DataFrame(rows, columns=["kind", "name", "x", "y", "z", "hu"]).round(3)
    table.insert(0, "study_id", plan.study_id)
    return table
