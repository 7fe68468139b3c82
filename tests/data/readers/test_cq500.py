"""CQ500: the majority of three readers, one series a study, every choice logged."""

import pandas as pd
import pytest

from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.readers.cq500 import is_reads, read_reads
from src.errors import UserError
from tests.data.cq500_files import write_reads, write_series
from tests.data.dicom_files import dataset, stored_values, write

OPTIONS = Options(dataset="cq500", size=256, folds=2)


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    write_series(root, 1, "CT Plain")
    write_series(root, 1, "CT PLAIN THIN", slices=40, step=0.625)
    write_series(root, 1, "CT BONE")
    write_series(root, 2, "CT 5mm", slices=20)
    write_series(root, 2, "CT POST CONTRAST", slices=20)
    write_series(root, 2, "CT Scout", slices=3)
    write_series(root, 7, "CT HRCT")
    write_reads(root, {1: {"ICH": (1, 1, 0), "SDH": (1, 0, 0)}, 2: {"Fracture": (1, 1, 1)}, 7: {}, 9: {}})
    return root


def test_one_series_a_study_is_used_and_every_choice_is_logged(raw, tmp_path, caplog):
    manifest = prepare(raw, tmp_path / "clean", OPTIONS)
    slices = Prepared(tmp_path / "clean").slices
    used = slices[slices["status"] == "ok"]
    assert used.groupby(["study_id", "series"]).size().to_dict() == {
        ("CQ500-CT-1", "CT Plain"): 16,
        ("CQ500-CT-2", "CT 5mm"): 20,
    }
    assert manifest["quarantined"] == {"other series": 40 + 16 + 20 + 3 + 16} and len(slices) == 131
    thin = slices[slices["series"] == "CT PLAIN THIN"]
    assert set(thin["cause"]) == {"other series: CT PLAIN THIN, another series was preferred"}
    assert used["pixel_hash"].notna().all() and thin["pixel_hash"].isna().all()  # not decoded for nothing
    log = pd.read_csv(tmp_path / "clean" / "series.csv").set_index(["study_id", "series"])
    assert log["reason"].to_dict() == {
        ("CQ500-CT-1", "CT BONE"): "unsuitable: name",
        ("CQ500-CT-1", "CT PLAIN THIN"): "another series was preferred",
        ("CQ500-CT-1", "CT Plain"): "step nearest 5 mm, most slices, name",
        ("CQ500-CT-2", "CT 5mm"): "step nearest 5 mm, most slices, name",
        ("CQ500-CT-2", "CT POST CONTRAST"): "unsuitable: name",
        ("CQ500-CT-2", "CT Scout"): "unsuitable: number of slices",
        ("CQ500-CT-7", "CT HRCT"): "unsuitable: name",
    }
    assert log["chosen"].sum() == 2
    assert manifest["kept_defects"]["studies in reads.csv without files"] == 1
    assert "1 studies without a suitable series, such as CQ500-CT-7" in caplog.text


def test_study_labels_are_the_majority(raw, tmp_path):
    prepare(raw, tmp_path / "clean", OPTIONS)
    studies = Prepared(tmp_path / "clean").studies.set_index("study_id")
    assert studies["any"].to_dict() == {"CQ500-CT-1": 1, "CQ500-CT-2": 0, "CQ500-CT-7": 0}
    assert studies.loc["CQ500-CT-1", "subdural"] == 0  # one reader of three
    assert studies["fracture"].tolist() == [0, 1, 0] and studies["category"].tolist() == ["B1", "B2", "B1"]
    assert Prepared(tmp_path / "clean").slices["any"].isna().all()
    assert sorted(Prepared(tmp_path / "clean").folds["fold"]) == [0, 1]


def test_the_reads_may_lie_elsewhere_and_are_known_by_their_header(raw, tmp_path):
    elsewhere = tmp_path / "elsewhere.csv"
    (raw / "reads.csv").rename(elsewhere)
    options = Options(dataset="cq500", size=256, folds=2, table=str(elsewhere))
    prepare(raw, tmp_path / "clean", options)
    assert Prepared(tmp_path / "clean").studies["any"].tolist() == [1, 0, 0]
    assert is_reads(elsewhere) and not is_reads(raw / "reads.csv")
    (tmp_path / "images.csv").write_text("image_id,any\nR1:ICH,1\n")
    assert not is_reads(tmp_path / "images.csv")


def test_people_overrule_the_rule(tmp_path):
    root = tmp_path / "raw"
    write_series(root, 337, "CT 2.55mm", slices=30, step=2.5)
    write_series(root, 337, "CT 5mm")
    write_series(root, 345, "CT Plain", slices=30)
    write_reads(root, {337: {}, 345: {}})
    prepare(root, tmp_path / "clean", OPTIONS)
    slices = Prepared(tmp_path / "clean").slices
    chosen = slices[(slices["study_id"] == "CQ500-CT-337") & (slices["status"] == "ok")]
    assert chosen["series"].unique().tolist() == ["CT 2.55mm"]
    head = slices[slices["study_id"] == "CQ500-CT-345"]
    assert (head["status"] == "ok").sum() == 24  # files from 24 on do not show the head
    assert head.loc[head["status"] != "ok", "cause"].str.startswith("not the head").all()


def test_the_real_opinions_give_the_published_counts(realdata):
    labels = read_reads(realdata / "cq500_reads_and_preds" / "reads.csv")
    positives = {"any": 205, "intraparenchymal": 134, "intraventricular": 28, "subdural": 53, "epidural": 13}
    positives |= {"subarachnoid": 60, "chronic_bleed": 19, "fracture": 39, "calvarial_fracture": 34}
    positives |= {
        "other_fracture": 12,
        "mass_effect": 127,
        "midline_shift": 65,
        "bleed_left": 131,
        "bleed_right": 129,
    }
    assert len(labels) == 491
    assert {name: int(labels[name].sum()) for name in positives} == positives
    assert labels.groupby("category")["any"].sum().to_dict() == {"B1": 35, "B2": 170}


def test_wrong_tables_are_refused(tmp_path, raw):
    table = pd.read_csv(raw / "reads.csv")
    for change, message in [
        (table.drop(columns="R2:ICH"), "the column R2:ICH is missing"),
        (table.assign(**{"R1:ICH": 2}), "an opinion is neither 0 nor 1"),
        (pd.concat([table, table]), "not 491 different"),
    ]:
        change.to_csv(tmp_path / "reads.csv", index=False)
        with pytest.raises(UserError, match=message):
            read_reads(tmp_path / "reads.csv")


def test_studies_are_known_by_their_number_and_what_is_left_out_has_a_row(tmp_path):
    """Below a folder that is called like a study; a study that the table lacks, and files of none."""
    root = tmp_path / "CQ500-CT-9 archive" / "raw"
    for study in (1, 2, 3):
        write_series(root, study, "CT Plain")
    write(root / "stray" / "x.dcm", dataset("1.2.9", stored_values(9)))
    (root / "icon.bmp").write_bytes(b"BM")
    write_reads(root, {1: {"ICH": (1, 1, 0)}, 2: {}})
    table = root / "reads.csv"
    table.write_text(table.read_text().replace("CQ500-CT-1,", "CQ500-CT-001,"))
    prepare(root, tmp_path / "clean", OPTIONS)
    prepared = Prepared(tmp_path / "clean")
    slices = prepared.slices.set_index("image_id")
    assert (slices.loc[slices["study_id"].isin(["CQ500-CT-1", "CQ500-CT-2"]), "status"] == "ok").sum() == 32
    assert set(slices.loc[slices["study_id"] == "CQ500-CT-3", "cause"]) == {
        "not in the table: reads.csv does not name the study"
    }
    assert slices.loc["stray/x", "cause"] == "no study: no CQ500-CT-<n> in the path"
    assert slices.loc["icon.bmp", "cause"] == "other format: .bmp is not read here" and len(slices) == 50
    studies = prepared.studies.set_index("study_id")
    assert studies["any"].dropna().to_dict() == {"CQ500-CT-1": 1, "CQ500-CT-2": 0}
    series = pd.read_csv(tmp_path / "clean" / "series.csv").set_index("study_id")
    assert "reads.csv does not name the study" in series.loc["CQ500-CT-3", "reason"]
