"""Make one synthetic study: draw the patient, the bleeds and the scan, paint the slices, and measure the blood."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pandas as pd

from ..labels import SUBTYPES
from .bleeds import Bleed
from .head import Head, measure, sample_head
from .lesions import sample_bleeds
from .mimics import Calcification, sample_mimics
from .phantom_plan import Preset, StudyPlan
from .scanner import (
    SITES,
    Acquisition,
    SliceWriter,
    holder,
    noise_texture,
    sample_acquisition,
    scan_circle,
    stored_values,
    wrapped,
)
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


class Painted:
    """A finished study in memory: files, labels and truth."""

    def __init__(self, plan: StudyPlan, preset: Preset, study: Study) -> None:
        self.plan, self.preset, self.study = plan, preset, study
        self.image_ids = [plan.image_id(i) for i in range(study.acquisition.slices)]
        grid = study.acquisition.grid
        self.blood = np.zeros((len(self.image_ids), len(SUBTYPES), grid, grid), bool)
        self.cavity = np.zeros((len(self.image_ids), grid, grid), bool)
        self._files: list[bytes] = []

    def files(self) -> list[tuple[str, bytes]]:
        """(image id, bytes of the DICOM file) of every slice."""
        return list(zip(self.image_ids, self._files, strict=True))

    def paint(self) -> "Painted":
        study, plan = self.study, self.plan
        acquisition, rng = study.acquisition, np.random.default_rng((*plan.study_seed, 1))
        writer = SliceWriter(acquisition, plan.patient_id, plan.study_id, plan.series_id)
        outside = scan_circle(acquisition.size)
        blank = range(len(self.image_ids) - plan.faults.get("blank", 0), len(self.image_ids))
        for index, image_id in enumerate(self.image_ids):
            hu, blood, inside = paint_slice(study, index)
            if index in blank:
                image = np.full((acquisition.size, acquisition.size), -1000.0, np.float32)
            else:
                image = expose(study, hu, rng, outside)
                for k, label in enumerate(SUBTYPES):
                    if label in blood:
                        self.blood[index, k] = blood[label] >= MASK_SHARE
                self.cavity[index] = inside >= 0.5
            content = writer.encode(image_id, index, stored_values(image, acquisition.site, outside))
            self._files.append(content)
        if "truncated" in plan.faults:
            k = len(self._files) // 2
            cut = int(acquisition.size**2 * 2 * 0.707)  # the contest's file lacks 370,578 of 524,288 bytes
            self._files[k] = self._files[k][:-cut]
        return self

    def volumes(self) -> np.ndarray:
        """Millilitres of each blood in each slice, (slices, subtypes)."""
        acquisition = self.study.acquisition
        pixel = acquisition.pixel * acquisition.size / acquisition.grid
        return self.blood.sum(axis=(2, 3)) * (pixel**2 * acquisition.step / 1000.0)

    def slice_table(self) -> pd.DataFrame:
        """image_id, study_id, patient_id, split, fault, the six labels and ml_<subtype>, one row a slice."""
        plan, volumes = self.plan, self.volumes()
        table = pd.DataFrame({"image_id": self.image_ids})
        table["study_id"], table["patient_id"], table["split"] = plan.study_id, plan.patient_id, plan.split
        table["order"] = np.arange(len(table))
        for k, label in enumerate(SUBTYPES):
            table[label] = (volumes[:, k] >= self.preset.label_ml).astype(int)
        table["any"] = table[list(SUBTYPES)].max(axis=1)
        for k, label in enumerate(SUBTYPES):
            table[f"ml_{label}"] = volumes[:, k].round(4)
        return table

    def site_table(self) -> pd.DataFrame:
        """study_id, kind (bleed or mimic), name, x, y, z in head coordinates (mm), hu; one row a lesion."""
        rows = [("bleed", b.label, *b.site, b.hu) for b in self.study.bleeds]
        rows += [("mimic", m.name, *m.site, m.hu) for m in self.study.mimics]
        table = pd.DataFrame(rows, columns=["kind", "name", "x", "y", "z", "hu"]).round(3)
        table.insert(0, "study_id", self.plan.study_id)
        return table

    def masks(self) -> dict[str, np.ndarray]:
        """Packed bits: blood (slices, subtypes, grid, grid), cavity (slices, grid, grid); shapes beside them."""
        return {
            "image_ids": np.array(self.image_ids),
            "blood": np.packbits(self.blood),
            "blood_shape": np.array(self.blood.shape),
            "cavity": np.packbits(self.cavity),
        }


def paint_study(plan: StudyPlan, preset: Preset) -> Painted:
    """Draw and paint one study."""
    cv2.setNumThreads(1)
    return Painted(plan, preset, draw_study(plan, preset)).paint()
