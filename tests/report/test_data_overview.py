"""The tables and pictures of a prepared data set."""

import pandas as pd
import pytest

from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.volumes import open_volumes
from src.labels import LABELS
from src.report.data_overview import (
    EDGES,
    counts,
    defects,
    histogram_figure,
    hu_histogram,
    interesting_study,
    main,
    montage_figure,
    prevalence,
    study_figure,
)
from tests.data.dicom_files import image_name, write_rsna
from tests.training.prepared import rewrite, write_clean


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    raw = write_rsna(folder / "raw", studies=4, slices=3, test_studies=1)
    (raw / "stage_2_train" / f"{image_name(0)}.dcm").write_bytes(b"")
    prepare(raw, folder / "clean", Options(size=256, folds=2))
    return folder / "clean"


def test_counts(clean):
    table = counts(Prepared(clean).slices).set_index("split")
    assert table.loc["train"].to_dict() == {
        "images": 11, "studies": 4, "patients": 4, "quarantined": 1, "slices_per_study": 2.8,
    }  # fmt: skip
    assert table.loc["test", "images"] == 3


def test_prevalence_of_images_studies_and_patients(clean):
    table = prevalence(Prepared(clean).slices, Prepared(clean).studies).set_index("label")
    assert table.loc["subdural", ["images", "studies", "patients"]].tolist() == [2, 2, 2]
    assert table.loc["any", "images_percent"] == pytest.approx(100 * 2 / 11, abs=0.001)
    assert table.loc["any", "studies_percent"] == 50
    assert table.loc["epidural", "images"] == 0


def test_prevalence_of_labels_that_only_studies_have(clean):
    slices = Prepared(clean).slices.assign(any=pd.array([pd.NA] * 15, dtype="Int8"))
    studies = Prepared(clean).studies.assign(any=pd.array([1, 0, 1, 1, None], dtype="Int8"))
    row = prevalence(slices, studies).set_index("label").loc["any"]
    assert row["studies"] == 3 and row["studies_percent"] == 75 and pd.isna(row["images"])


def test_every_defect_is_listed(clean):
    table = defects(Prepared(clean).manifest).set_index("defect")
    assert table.loc["empty file"].tolist() == [1, "quarantined"]
    assert table.loc["zero step"].tolist() == [0, "kept"]


def test_the_histogram_counts_every_pixel(clean):
    volumes = open_volumes(clean)
    total = hu_histogram(volumes, volumes.image_ids)
    assert total.sum() == 14 * 256 * 256
    brain = total[(EDGES[:-1] >= 20) & (EDGES[:-1] < 60)].sum()
    assert brain / total.sum() == pytest.approx(0.28, abs=0.05)  # a disc of radius 0.6 in a square of side 2
    assert histogram_figure(total).axes[0].get_xlabel() == "Hounsfield units"


def test_pictures_show_examples_of_each_label_and_a_whole_study(clean):
    volumes, slices = open_volumes(clean), Prepared(clean).slices
    titles = [axes.get_title() for axes in montage_figure(volumes, slices).axes]
    assert f"subdural\n{image_name(201)}" in titles
    assert sum(title.startswith("no bleeding") for title in titles) == 4
    study = interesting_study(slices)
    assert study in ("ID_s0", "ID_s2")  # those that bleed
    figure = study_figure(volumes, slices, "ID_s2")
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0, 0, 0, 0, 0]
    assert figure.axes[1].get_frame_on() and not figure.axes[0].get_frame_on()  # the bleeding slice is framed


def test_a_data_set_without_labels_is_shown_too(clean):
    slices = Prepared(clean).slices
    slices = slices.assign(**{label: pd.array([pd.NA] * len(slices), dtype="Int8") for label in LABELS})
    titles = [axes.get_title() for axes in montage_figure(open_volumes(clean), slices).axes]
    assert titles[0].startswith("no labels")
    assert interesting_study(slices)


def test_a_data_set_without_a_usable_image_has_tables_and_no_pictures(tmp_path, monkeypatch, capsys):
    write_clean(tmp_path / "clean", studies=4)
    spoilt = {"status": "quarantined", "cause": "empty file", "volume": None, "volume_index": None}
    rewrite(tmp_path / "clean", "slices.parquet", lambda slices: slices.assign(**spoilt))
    monkeypatch.setattr(
        "sys.argv", ["data_overview", str(tmp_path / "clean"), "--out", str(tmp_path / "out")]
    )
    main()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "counts.csv",
        "defects.csv",
        "prevalence.csv",
    ]
    assert pd.read_csv(tmp_path / "out" / "counts.csv")["quarantined"].tolist() == [15, 5]
