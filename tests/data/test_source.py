"""Bytes from files and from zip archives; names and listings."""

import errno
import os
import zipfile

import pytest

from src.data.source import (
    list_files,
    list_members,
    modified_ns,
    read_bytes,
    read_head,
    stamp,
    without_suffix,
)
from src.errors import UserError


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_an_archive_are_read_like_files(tmp_path, method):
    content = os.urandom(3000) + b"x" * 90000
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/a.dcm", content)
        archive.writestr("b.dcm", b"")
    first, second = list_members(path)
    assert (first.name, str(first)) == ("folder/a.dcm", f"{path}/folder/a.dcm")
    assert read_bytes(first) == content and read_bytes(second) == b""
    assert read_head(first, 4096) == (content[:4096], len(content))
    assert stamp(first) == (len(content),) and modified_ns(first) == path.stat().st_mtime_ns


def test_the_head_of_a_file_comes_with_its_size(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    assert read_head(path, 4) == (b"0123", 10)
    assert read_head(path, 100) == (b"0123456789", 10)
    assert stamp(tmp_path / "gone") == (-1,)


def test_what_is_no_archive_is_named(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"a\.zip: not a readable zip archive"):
        list(list_members(path))


def test_files_are_listed_by_name_without_hidden_ones(tmp_path):
    for name in ("b/2.dcm", "b/10.dcm", "a.dcm", ".hidden/x.dcm", "b/.x.dcm", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [os.path.relpath(entry.path, tmp_path) for entry in list_files(tmp_path, (".dcm",))]
    assert names == ["a.dcm", "b/10.dcm", "b/2.dcm"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    with pytest.raises(UserError, match=f"gone: cannot be listed .{os.strerror(errno.ENOENT)}."):
        list_files(tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("ID_1.dcm", "ID_1"), ("a.JPG", "a"), ("1.2.840.5", "1.2.840.5"), ("IM0001", "IM0001")],
)
def test_only_suffixes_of_images_are_taken_off(name, stem):
    assert without_suffix(name) == stem
