"""Which studies lie under a path, and archives that must not be unpacked."""

import shutil
import zipfile

import pytest

from src.data.incoming import unpack as unpacking
from src.data.incoming.find import find_studies
from src.errors import UserError
from tests.data.dicom_files import dataset, write
from tests.data.incoming.studies import volume, write_study

nibabel = pytest.importorskip("nibabel")


@pytest.fixture
def scratch(tmp_path):
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def found(path, scratch):
    return {study.study_id: len(study.paths) for study in find_studies(path, scratch)}


def test_studies_are_told_apart_by_their_uid_and_volumes_by_their_file(tmp_path, scratch):
    root = tmp_path / "disk"
    write_study(root / "a", volume(3), study="1.2.1")
    write_study(root / "b", volume(2), study="1.2.2", series="1.2.2.1")
    shutil.move(root / "b" / "IM001.dcm", root / "a" / "other.dcm")
    for folder in ("c", "d"):
        (root / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(volume(2).T, None), root / folder / "scan.nii")
    nibabel.save(nibabel.Nifti1Image(volume(2).T, None), root / "other.nii.gz")
    (root / "report.txt").write_text("no image")
    expected = {"1.2.1": 3, "1.2.2": 2, "c/scan.nii": 1, "d/scan.nii": 1, "other": 1}
    assert found(root, scratch) == expected
    shutil.make_archive(str(tmp_path / "disk"), "zip", root)
    assert found(tmp_path / "disk.zip", scratch) == expected
    assert found(root / "other.nii.gz", scratch) == {"other": 1}
    assert found(root / "b" / "IM000.dcm", scratch) == {"1.2.2": 1}


def test_files_without_study_go_with_the_only_one(tmp_path, scratch):
    write_study(tmp_path / "a", volume(2))
    (tmp_path / "a" / "broken.dcm").write_bytes(b"nothing" * 40)
    assert found(tmp_path / "a", scratch) == {"1.2.1": 3}
    write_study(tmp_path / "a" / "b", volume(2), study="1.2.2", series="1.2.2.1")
    assert found(tmp_path / "a", scratch) == {"1.2.1": 2, "1.2.2": 2, "without StudyInstanceUID": 1}


def test_files_are_in_the_order_of_their_uids_whatever_they_are_called(tmp_path, scratch):
    write_study(tmp_path / "a", volume(3), names=["c", "a", "b"])
    (study,) = find_studies(tmp_path / "a", scratch)
    assert study.uids == ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"] and study.names == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.mkdir(), "is empty; give a folder of DICOM files"),
        (lambda path: (path.mkdir(), (path / "a.txt").write_text("a")), "among 1, such as a.txt"),
        (lambda path: (path.mkdir(), (path / "a.tar.gz").write_text("a")), "only archives that are not"),
        (lambda path: path.write_text("text"), "not a DICOM|no DICOM or NIfTI file among 1"),
    ],
)  # fmt: skip
def test_where_there_is_no_study_the_path_and_the_remedy_are_named(tmp_path, scratch, make, message):
    path = tmp_path / "what.txt"
    make(path)
    with pytest.raises(UserError, match=message) as raised:
        find_studies(path, scratch)
    assert str(raised.value).startswith(str(path))


def archive(path, **members: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


OUTSIDE = ["../evil.dcm", "a/../../evil.dcm", "/evil.dcm", "..\\evil.dcm", "C:\\evil.dcm"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_member_that_leads_outside_is_refused_and_nothing_is_written(tmp_path, scratch, name):
    path = archive(tmp_path / "a.zip", **{"good.dcm": b"", name: b"evil"})
    with pytest.raises(UserError, match="leads outside the archive; it is not unpacked"):
        find_studies(path, scratch)
    assert list(scratch.iterdir()) == [] and not (tmp_path / "evil.dcm").exists()


def test_a_bomb_is_refused_by_its_own_directory(tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(unpacking, "MOST_BYTES", 1_000_000)
    path = archive(tmp_path / "a.zip", **{"a.dcm": bytes(600_000), "b.dcm": bytes(600_000)})
    assert path.stat().st_size < 5000
    with pytest.raises(UserError, match=r"holds 2 files of 0.0 GB, more than 100000 or 0.0 GB"):
        find_studies(path, scratch)
    assert list(scratch.iterdir()) == []


def test_a_member_larger_than_it_says_is_refused(tmp_path, scratch):
    """Its directory says 100 bytes; only so many are unpacked."""
    path = archive(tmp_path / "a.zip", **{"a.dcm": bytes(5_000_000)})
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02")
    data[start + 24 : start + 28] = (100).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"a.dcm cannot be unpacked \(damaged zip member: its checksum"):
        find_studies(path, scratch)


def test_other_odd_archives_are_named(tmp_path, scratch):
    cut = archive(tmp_path / "cut.zip", **{"a.dcm": bytes(1000)})
    cut.write_bytes(cut.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a readable zip archive"):
        find_studies(cut, scratch)
    locked = archive(tmp_path / "locked.zip", **{"a.dcm": b"data"})
    data = bytearray(locked.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"a\.dcm is encrypted or not deflated; unpack the archive instead"):
        find_studies(locked, scratch)
    with pytest.raises(UserError, match="is empty"):
        find_studies(archive(tmp_path / "empty.zip"), scratch)


def test_a_study_without_uid_is_found_to_be_refused_with_its_cause(tmp_path, scratch):
    write(tmp_path / "a" / "1.dcm", dataset("1.2.3", drop=("StudyInstanceUID",)))
    assert found(tmp_path / "a", scratch) == {"without StudyInstanceUID": 1}
