"""A new study prepared: series choice, order, gaps, and what is no head CT in HU."""

import itertools
import os
import shutil
import tarfile

import cv2
import numpy as np
import pydicom
import pytest

from src.data.dicom import scan_headers
from src.data.incoming.find import find_studies
from src.data.incoming.gaps import Gap, find_gaps
from src.data.incoming.study import prepare_study
from src.errors import UserError
from tests.data.incoming.studies import head, volume, write_study

GEOMETRY = {"size": 256, "crop": False, "remove_holder": False, "correct_tilt": False, "units": "hu"}


@pytest.fixture
def prepared(tmp_path):
    """path, series=None -> the only study under it, prepared."""
    counter = itertools.count()

    def prepare(path, series=None):
        scratch = tmp_path / f"scratch{next(counter)}"
        scratch.mkdir()
        (study,) = find_studies(path, scratch)
        return prepare_study(study, GEOMETRY, scratch / "clean", series)

    return prepare


def pixels(study) -> np.ndarray:
    return np.stack([study.prepared.volumes.slice(image_id) for image_id in study.slices.index])


def test_a_plain_head_has_nothing_doubtful_about_it(tmp_path, prepared):
    write_study(tmp_path / "a")
    study = prepared(tmp_path / "a")
    assert study.warnings == [] and len(study.left_out) == 0
    assert study.slices["position_mm"].tolist() == [5.0 * n for n in range(26)]
    assert study.slices["sop_instance_uid"].tolist() == [f"1.2.1.1.{n + 1}" for n in range(26)]
    series = study.series.iloc[0]
    assert (series["series"], series["slices"], series["step_mm"], series["points"]) == ("1.2.1.1", 26, 5, 0)


def test_names_and_numbers_of_files_change_nothing(tmp_path, prepared):
    """Positions alone tell the order; the same images are there twice as well."""
    names = [f"{(7 * n) % 26:02d}" for n in range(26)]
    write_study(tmp_path / "a")
    write_study(tmp_path / "b", names=names, InstanceNumber=1)
    shutil.copy(tmp_path / "b" / names[0], tmp_path / "b" / "copy")
    first, second = prepared(tmp_path / "a"), prepared(tmp_path / "b")
    assert first.slices.equals(second.slices) and np.array_equal(pixels(first), pixels(second))
    assert second.left_out["cause"].tolist() == ["duplicate: SOPInstanceUID and pixels of 1.2.1.1.1"]
    assert second.warnings == []


@pytest.fixture
def several(tmp_path):
    root = tmp_path / "several"
    of = {"study": "1.2.1"}
    write_study(root / "thin", volume(130), series="1.2.1.1", step=1.0, SeriesDescription="HEAD THIN", **of)
    write_study(root / "plain", series="1.2.1.2", SeriesDescription="HEAD W/O CONTRAST", **of)
    write_study(root / "bone", series="1.2.1.3", ConvolutionKernel=["H70h", "3"], **of)
    write_study(root / "agent", series="1.2.1.4", ContrastBolusAgent="Iodine", **of)
    write_study(root / "dose", series="1.2.1.5", SeriesDescription="4cc sec 150cc", **of)
    write_study(root / "neck", series="1.2.1.6", BodyPartExamined="NECK", ContrastBolusAgent="none", **of)
    scout = {"ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"]}
    write_study(root / "scout", volume(1), series="1.2.1.7", **scout, **of)
    return root


def test_the_axial_series_without_contrast_is_chosen_and_all_others_say_why_not(several, prepared):
    study = prepared(several)
    table = study.series.set_index("series")
    assert study.series["series"].tolist() == [f"1.2.1.{n}" for n in (2, 1, 3, 4, 5, 6, 7)]
    assert table["chosen"].tolist() == [True, *[False] * 6]
    assert table["points"].tolist() == [0, 0, 4, 6, 6, 16, 100]
    against = table["against"].fillna("").to_dict()
    assert against == {
        "1.2.1.2": "",
        "1.2.1.1": "",
        "1.2.1.3": "bone kernel: ConvolutionKernel says so",
        "1.2.1.4": "contrast: ContrastBolusAgent says so",
        "1.2.1.5": "contrast: SeriesDescription says so",
        "1.2.1.6": "another region: BodyPartExamined says so",
        "1.2.1.7": "no axial CT slice: non-axial: the slice normal is far from the body's axis",
    }
    assert len(study.slices) == 26 and study.warnings == []
    assert study.left_out["cause"].str.split(":").str[0].value_counts().to_dict() == {
        "other series": 130 + 4 * 26,
        "non-axial": 1,
    }


def test_a_series_can_be_asked_for_and_then_what_speaks_against_it_is_a_warning(several, prepared):
    study = prepared(several, "1.2.1.4")
    assert study.slices["sop_instance_uid"].str.startswith("1.2.1.4.").all()
    assert study.warnings == ["contrast: ContrastBolusAgent says so"]
    with pytest.raises(UserError, match=r"--series 9: the study has no such series, but 1\.2\.1\.1, "):
        prepared(several, "9")


def test_without_positions_instance_number_tells_the_order_and_it_is_said(tmp_path, prepared):
    hu, drop = volume(), ("ImagePositionPatient", "ImageOrientationPatient")
    write_study(tmp_path / "a", hu, drop=drop, names=[f"{(7 * n) % 26:02d}" for n in range(26)])
    study = prepared(tmp_path / "a")
    assert study.slices["sop_instance_uid"].tolist() == [f"1.2.1.1.{n + 1}" for n in range(26)]
    assert study.slices["position_mm"].isna().all()
    (warning,) = study.warnings
    assert warning.startswith("no positions: the order is that of InstanceNumber, whose direction is unknown")
    write_study(tmp_path / "b", hu, drop=(*drop, "InstanceNumber"))
    with pytest.raises(UserError, match=r"none of 26 images can be used .*missing tag: ImagePositionPatient"):
        prepared(tmp_path / "b")


def test_a_localizer_within_the_series_is_dropped_by_geometry(tmp_path, prepared):
    write_study(tmp_path / "a")
    turned = {"ImageOrientationPatient": ["1", "0", "0", "0", "0.939693", "-0.342020"]}
    write_study(tmp_path / "b", volume(1), **turned)
    path = shutil.move(tmp_path / "b" / "IM000.dcm", tmp_path / "a" / "scout.dcm")
    data = pydicom.dcmread(path)
    data.SOPInstanceUID = "1.2.1.1.999"
    data.save_as(path)
    study = prepared(tmp_path / "a")
    assert len(study.slices) == 26
    assert study.left_out.to_dict("records") == [
        {"name": "scout.dcm", "cause": "other plane: turned by 20 degrees from its series"}
    ]


def test_missing_and_broken_slices_are_told_with_their_place(tmp_path, prepared):
    paths = write_study(tmp_path / "a")
    paths[10].unlink()
    paths[20].write_bytes(paths[20].read_bytes()[:-100])
    study = prepared(tmp_path / "a")
    assert len(study.slices) == 24
    assert study.warnings == [
        "missing slices: about 1 slice between 45.0 and 55.0 mm; nothing was put in their place",
        "missing slices: about 1 slice between 95.0 and 105.0 mm; nothing was put in their place",
        "unusable slice: IM020.dcm: truncated: PixelData has 32668 of 32768 bytes",
    ]


def test_gaps_are_steps_wider_than_those_on_both_sides():
    assert find_gaps(np.array([0, 5, 10, 20, 25, 30, 45, 50.0])) == [Gap(10, 20, 1), Gap(30, 45, 2)]
    assert find_gaps(np.array([0, 2.5, 5, 7.5, 12.5, 17.5, 22.5])) == []  # the step changes
    assert find_gaps(np.array([0, 0, 5, 5, 10, 10.2, 15, 15.2, 20])) == []  # two passes
    assert find_gaps(np.array([0, 144.0])) == [] == find_gaps(np.array([1.0]))
    assert str(Gap(10.04, 30, 3)) == "about 3 slices between 10.0 and 30.0 mm"


@pytest.mark.parametrize("slices", [1, 2])
def test_one_and_two_slices_work_with_a_warning(tmp_path, prepared, slices):
    write_study(tmp_path / "a", volume()[12 : 12 + slices])
    study = prepared(tmp_path / "a")
    assert len(study.slices) == slices
    assert study.warnings == [f"fewer than 3 slices: {slices}; a network sees no neighbours"]


def sharpened(hu):
    """As by a bone kernel: noise of neighbouring pixels differs, edges overshoot."""
    noise = np.random.default_rng(0).normal(0, 20, hu.shape)
    return np.where(hu > -500, hu + noise - cv2.GaussianBlur(noise, (0, 0), 1), hu).astype(np.int16)


def with_vessels(hu):
    hu = hu.copy()
    row, column = np.mgrid[: hu.shape[1], : hu.shape[2]]
    for x, y in ((50, 50), (60, 70), (70, 55), (64, 64)):
        hu[:, np.hypot(row - y, column - x) < 4] = 160
    return hu


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_vessels, "perhaps with contrast, though nothing says so: "),
        (lambda hu: hu[:13], "part of the head may be missing: the slices cover 60 mm"),
        (lambda hu: np.where(np.arange(128) < 64, -1000, hu), "half of the head may be missing: its largest"),
        (lambda hu: np.where(hu < -500, 0, hu), "no air around the head: outside it is 0 HU; images were"),
        (lambda hu: np.roll(hu, -50, axis=2), "cut off: "),
        (lambda hu: np.where((hu > 0) & (hu < 100), hu + 60, hu), "perhaps not HU: the brain's median is 95"),
    ],
)  # fmt: skip
def test_what_a_head_ct_should_not_look_like_is_a_warning(tmp_path, prepared, change, said):
    write_study(tmp_path / "a", change(volume()).astype(np.int16))
    assert [warning for warning in prepared(tmp_path / "a").warnings if warning.startswith(said)]


def test_the_noise_of_a_bone_kernel_is_a_warning(tmp_path, prepared):
    """At full resolution alone: coarse pixels are means."""
    fine = np.stack([head(place, size=448) for place in np.linspace(-0.5, 0.5, 25)])
    smooth = np.stack([np.where(hu > -500, cv2.GaussianBlur(hu, (0, 0), 2) * 1.0, hu) for hu in fine])
    write_study(tmp_path / "soft", smooth.astype(np.int16))
    write_study(tmp_path / "bone", sharpened(fine))
    assert not any("kernel" in warning for warning in prepared(tmp_path / "soft").warnings)
    assert any(
        warning.startswith("perhaps a bone kernel") for warning in prepared(tmp_path / "bone").warnings
    )


@pytest.mark.parametrize(
    ("change", "tags", "message"),
    [
        (None, {"Modality": "MR"}, r"none of 26 images can be used \(not CT 26\).*Modality is MR"),
        (None, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, r"\(localizer 26\).*ImageType says so"),
        (None, {"NumberOfFrames": "30"}, r"\(multi-frame 26\).*30 images in the file"),
        (lambda hu: np.full_like(hu, -1000), {}, "not a head: its largest section is 0 cm2"),
        (lambda hu: np.where(hu > 100, 40, hu), {}, "not a head: 0 % of it are bone, of a head 12 to 26 %"),
        (None, {"PixelSpacing": ["4", "4"]}, "not a head: its largest section is .* cm2, that of a head"),
        (lambda hu: hu + 1024, {}, "not HU: around the head are 24 HU, where there is air"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_head_ct_is_refused(tmp_path, prepared, change, tags, message):
    hu = volume() if change is None else change(volume()).astype(np.int16)
    write_study(tmp_path / "a", hu, **tags)
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "a")


def test_networks_that_know_no_hu_are_refused(tmp_path):
    write_study(tmp_path / "a")
    (study,) = find_studies(tmp_path / "a", tmp_path)
    with pytest.raises(UserError, match="trained on gray images, not on HU"):
        prepare_study(study, GEOMETRY | {"units": "gray"}, tmp_path / "clean")


def test_real_series_are_told_rightly(real_ge, realdata, tmp_path, prepared):
    assert prepared(real_ge[0].parent).warnings == []
    with tarfile.open(realdata / "cq500_ct0_excerpt" / "slices.tar") as tar:
        tar.extractall(tmp_path / "cq500", filter="data")
    said = prepared(tmp_path / "cq500").warnings
    assert said[:2] == [
        "contrast: SeriesDescription says so",
        "missing slices: about 1 slice between 116.8 and 118.1 mm; nothing was put in their place",
    ]
    others = [warning.split(":")[0] for warning in said[2:]]
    assert others == ["part of the head may be missing", "hardly any brain"]
    template = prepared(realdata / "ct_template_2mm" / "template_with_skull_2mm.nii.gz")
    assert template.warnings == ["no air around the head: outside it is 0 HU; images were changed"]


def test_real_studies_of_the_contest_are_plain_heads(real_train, tmp_path, prepared):
    headers = scan_headers(real_train)
    whole = [rows["path"] for _, rows in headers.groupby("study_id") if len(rows) > 5]
    assert len(whole) == 10
    for number, paths in enumerate(whole):
        (tmp_path / str(number)).mkdir()
        for path in paths:
            (tmp_path / str(number) / os.path.basename(path)).symlink_to(path)
        assert prepared(tmp_path / str(number)).warnings == []
