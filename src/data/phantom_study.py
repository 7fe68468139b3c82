"""Make one synthetic study: draw the patient, the bleeds and the scan, paint the slices, and measure the blood."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..labels import SUBTYPES
from .bleeds import Bleed
from .head import Head, measure, sample_head
from .lesions import sample_bleeds
from .mimics import Calcification, sample_mimics
from .phantom_plan import Preset, StudyPlan
from .scanner import SITES, Acquisition, holder, noise_texture, sample_acquisition, scan_circle, wrapped
from .tissue import enclose, paint_brain

MASK_SHARE = 0.4  # a pixel of the mask is blood where at least this share of its 5 mm column is


@dataclass(frozen=True)
class Study:
    """A drawn study, before painting. Everything follows from the plan's seeds."""

    head: Head
    bleeds: list[Bleed]
    mimics: list[Calcification]
    acquisition: Acquisition
    background: np.ndarray


def draw_study(plan: StudyPlan, preset: Preset) -> Study:
    """Draw head, bleeds, mimics and scan; studies of one patient share the head and the mimics."""
    patient = np.random.default_rng(plan.patient_seed)
    head = sample_head(patient)
    mimics = sample_mimics(patient, head, preset.mimics)
    rng = np.random.default_rng(plan.study_seed)
    site = SITES[rng.choice(len(SITES), p=np.array([s.weight for s in SITES]) / sum(s.weight for s in SITES))]
    if "wrap" in plan.faults:
        site = wrapped(site, plan.faults["wrap"])
    if "intraventricular" in plan.recipe:  # blood dilates the ventricles
        head = replace(head, ventricle=min(head.ventricle * rng.uniform(1.15, 1.5), 1.9))
    bleeds = sample_bleeds(rng, head, plan.recipe, preset.hard)
    acquisition = sample_acquisition(
        rng, head, site, plan.size, plan.slices, preset.slices, preset.noise, repeated="zero_step" in plan.faults
    )
    return Study(head, bleeds, mimics, acquisition, holder(rng, acquisition))


def paint_slice(study: Study, index: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """One slice without noise.

    -> HU (grid, grid) float32, share of blood per label present {label: (grid, grid)}, share of cranial cavity
    """
    head, acquisition = study.head, study.acquisition
    box, planes = acquisition.planes(index, head)
    hu, inside = study.background.copy(), np.zeros_like(study.background)
    blood = {bleed.label: np.zeros_like(hu) for bleed in study.bleeds}
    total = np.zeros(planes[0].shape, np.float32)
    pushes = [push for bleed in study.bleeds for push in bleed.pushes()]
    for plane in planes:
        fields = measure(head, plane)
        layers = [layer for bleed in study.bleeds if (layer := bleed.layer(fields)) is not None]
        widen = [extra for bleed in study.bleeds if (extra := bleed.widen(fields)) is not None]
        brain = paint_brain(head, fields, sum(layers) if layers else 0.0, pushes, sum(widen) if widen else 0.0)
        for mimic in study.mimics:
            mimic.paint(head, fields, brain)
        for bleed in study.bleeds:
            bleed.stain(head, fields, brain)
        for bleed in study.bleeds:
            share = bleed.coverage(head, fields, brain)
            brain.hu += share * (bleed.hu - brain.hu)
            blood[bleed.label][box] += share / len(planes)
        total += enclose(head, fields, brain, study.background[box])
        inside[box] += brain.inside / len(planes)
    hu[box] = total / len(planes)
    return hu, blood, inside


def expose(study: Study, hu: np.ndarray, rng: np.random.Generator, outside: np.ndarray) -> np.ndarray:
    """Enlarge a painted slice to the stored size and add noise.  (grid, grid) -> (size, size) float32 HU"""
    acquisition = study.acquisition
    size = acquisition.size
    image = cv2.resize(hu, (size, size), interpolation=cv2.INTER_CUBIC) if size != hu.shape[0] else hu.copy()
    image += noise_texture(rng, size, acquisition.pixel) * np.float32(acquisition.noise)
    return image
