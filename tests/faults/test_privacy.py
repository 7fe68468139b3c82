"""What names a patient stays in the files it came in: words planted everywhere come out nowhere."""

import shutil

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from src.data.formats.header import ELEMENTS
from src.errors import UserError
from tests.data.dicom_files import dataset, write, write_rsna
from tests.faults.killing import finish
from tests.faults.planted import IDS, MARK, leaks, plant_files, planted, word, words
from tests.faults.steps import STEPS, write_home

WRITTEN = ("clean_data", "model", "checkpoint", "logs", "submission")
READ = {keyword: tag for tag, (_, keyword, vr) in ELEMENTS.items() if vr != "US" and keyword not in IDS}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A home whose DICOM files have a word in every text element, after every step; what the steps said."""
    home = tmp_path_factory.mktemp("home")
    write_home(home)
    plant_files([*(home / "raw_data").rglob("*.dcm"), *(home / "new").rglob("*.dcm")])
    return home, {step: finish(home, step)[1] for step in STEPS}


def test_words_stand_in_every_kind_of_place_of_the_files(told):
    """Otherwise the next test says nothing."""
    data = pydicom.dcmread(next((told[0] / "new").rglob("*.dcm")))
    found = [words(path.read_bytes()) for path in told[0].rglob("*.dcm")]
    assert min(map(len, found)) > 100 and len(set().union(*found)) > 1100
    for keyword in ("PatientName", "StudyDate", "AccessionNumber", "StudyDescription", "SeriesDescription"):
        assert data.get_item(keyword).value.startswith(MARK.encode())
    assert data[0x00091001].value and data.ReferencedSeriesSequence[0].ReferencedImageSequence[0].PatientName


def test_no_step_writes_or_says_a_planted_word(told):
    home, said = told
    for folder in WRITTEN:
        assert any((home / folder).rglob("*"))
        assert leaks(home / folder) == set(), folder
    assert {step: words(text) for step, text in said.items()} == {step: set() for step in STEPS}


@pytest.mark.parametrize("keyword", READ)
def test_an_element_that_is_read_is_not_quoted_where_it_cannot_be_used(tmp_path, keyword):
    """In every table, a cause among them."""
    from src.data.preparation.options import Options
    from src.data.preparation.prepare import prepare

    tag = Tag(*READ[keyword])
    write_rsna(tmp_path / "raw", test_studies=0)
    bad = sorted((tmp_path / "raw").rglob("*.dcm"))[0]
    data = pydicom.dcmread(bad)
    for value in (word(tag), b"ORIGINAL\\" + word(tag), b"1\\" + word(tag), b"19500501" + word(tag)):
        data[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
        data.save_as(bad)
        assert words(bad.read_bytes())
        shutil.rmtree(tmp_path / "clean", ignore_errors=True)
        prepare(tmp_path / "raw", tmp_path / "clean", Options(size=256, folds=2))
        assert leaks(tmp_path / "clean") == set()
        causes = pd.read_csv(tmp_path / "clean/quarantine.csv")["cause"]
        assert not causes.str.contains("19500501").any()


def test_what_a_character_set_is_called_is_not_quoted(tmp_path):
    from src.data.dicom import decode, scan_headers

    path = write(tmp_path / "a.dcm", dataset("1.2.3", PatientName="Zoë"))
    data = pydicom.dcmread(path)
    data[0x00080005] = RawDataElement(Tag(0x00080005), "CS", 16, word(0x00080005), 0, False, True)
    data.save_as(path)
    assert words(scan_headers([path]).to_csv()) == set()
    try:
        decode(path.read_bytes())
    except ValueError as error:
        assert words(str(error)) == set()


def test_volumes_and_pictures_are_prepared_without_their_texts(tmp_path):
    from src.data.preparation.options import Options
    from src.data.preparation.prepare import prepare

    nibabel = pytest.importorskip("nibabel")
    values = np.full((40, 40, 6), 35, np.int16)
    image = nibabel.Nifti1Image(values, np.diag((2.0, 2.0, 5.0, 1)))
    for name in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[name] = MARK.encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", word(1)))
    (tmp_path / "raw").mkdir()
    nibabel.save(image, tmp_path / "raw/head.nii.gz")
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", word(2).decode())
    for number, name in enumerate("abcd"):
        picture = Image.fromarray(np.full((64, 64), 90, np.uint8) + np.eye(64, k=number, dtype=np.uint8))
        picture.save(tmp_path / f"raw/{name}.png", pnginfo=texts)
    rows = [f"{name}.png,{name},0,{word(3).decode()},{word(4).decode()}" for name in "abcd"]
    header = "path,patient_id,any,radiologist,remark"
    (tmp_path / "raw/t.csv").write_text("\n".join([header, *rows]) + "\n")
    prepare(tmp_path / "raw", tmp_path / "pictures", Options("table", table="t.csv", size=256, folds=2))
    prepare(tmp_path / "raw", tmp_path / "volumes", Options("nifti", size=256))
    for folder in ("pictures", "volumes"):
        assert leaks(tmp_path / folder) == set()


@pytest.mark.parametrize(
    "row",
    ["ID_a_any,0,Erika PLANTED", "ID_a_any,PLANTED", "ID_a_any,0\nErika PLANTED", '"ID_a_any,0 PLANTED'],
)
def test_a_row_that_cannot_be_read_is_not_quoted_but_its_id(tmp_path, row):
    from src.data.contest_csv import read_labels
    from src.data.readers.csv_file import read_csv, read_texts

    path = tmp_path / "labels.csv"
    path.write_text(f"ID,Label\n{row}\n")
    with pytest.raises(UserError) as refused:
        read_labels(path)
    assert words(str(refused.value)) == set()
    for read in (read_csv, read_texts):
        try:
            read(path, "repair it")
        except UserError as error:
            assert words(str(error)) == set()


@pytest.mark.parametrize("column", ["slice", "position_mm", "window_center", "any", "subdural", "split"])
def test_a_field_of_a_table_that_cannot_be_used_is_named_not_quoted(tmp_path, column):
    from src.data.readers.table_rows import read_rows

    path = tmp_path / "t.csv"
    path.write_text(f"path,{column},remark\na.png,{MARK},{MARK}\n")
    with pytest.raises(UserError, match=rf"data row 1: {column} is n") as refused:
        read_rows(path)
    assert words(str(refused.value)) == set()


def test_a_refused_study_is_not_called_by_its_patient(tmp_path):
    from src.data.incoming.find import find_studies
    from src.data.incoming.study import prepare_study

    geometry = {"size": 256, "crop": False, "remove_holder": False, "correct_tilt": False}
    data = planted(dataset("1.2.3", np.full((64, 64), 1064, np.int16), study="1.2"), 0)
    write(tmp_path / "new/a.dcm", data)
    (study,) = find_studies(tmp_path / "new", tmp_path)
    with pytest.raises(UserError, match=r"1\.2: not HU: around the head") as refused:
        prepare_study(study, geometry, tmp_path / "clean")
    assert words(str(refused.value)) == set()
