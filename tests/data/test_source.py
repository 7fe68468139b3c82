"""Bytes from files and from zip archives; names and listings."""

import errno
import inspect
import os
import sys
import time
import zipfile

import pytest

from src.data.source import (
    Picture,
    cause_of_failure,
    changed_since,
    list_files,
    list_members,
    modified_ns,
    printable,
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


def names_below(folder) -> list[str]:
    return [os.path.relpath(entry.path, folder) for entry in list_files(folder)]


def test_links_to_folders_are_followed_once_and_last(tmp_path):
    """A link to the folder it lies in, to one above, to one beside, and to one elsewhere."""
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("root/a/1", "root/2", "elsewhere/3"):
        (tmp_path / name).write_bytes(b"")
    for link, target in (("a/self", "."), ("a/up", ".."), ("0", "a"), ("far", "../elsewhere")):
        os.symlink(target, tmp_path / "root" / link)
    assert names_below(tmp_path / "root") == ["2", "a/1", "far/3"]


def test_a_link_to_itself_and_one_to_nothing_are_files_that_cannot_be_read(tmp_path):
    os.symlink("loop", tmp_path / "loop")
    os.symlink("gone", tmp_path / "broken")
    assert names_below(tmp_path) == ["broken", "loop"]
    for name, code in (("loop", errno.ELOOP), ("broken", errno.ENOENT)):
        with pytest.raises(OSError, match=os.strerror(code)):
            read_bytes(tmp_path / name)


def test_folders_may_lie_deeper_than_python_recurses(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 60)
    deep.mkdir(parents=True)
    (deep / "x").write_bytes(b"")
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack()) + 40)
        found = list_files(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert [entry.name for entry in found] == ["x"]


def test_a_pipe_is_no_file_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (read_bytes, lambda path: read_head(path, 10)):
        with pytest.raises(ValueError, match="not a file: a pipe"):
            read(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        read_bytes(tmp_path)


def test_what_macos_adds_to_archives_is_left_out(tmp_path):
    others = ("__MACOSX/s/._ID_1.dcm", "__MACOSX/s/ID_1.dcm", "s/.DS_Store", "s/._ID_1.dcm")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("s/ID_1.dcm", *others):
            archive.writestr(name, b"")
    assert [member.name for member in list_members(tmp_path / "a.zip")] == ["s/ID_1.dcm"]
    (tmp_path / "b" / "__MACOSX").mkdir(parents=True)
    (tmp_path / "b" / "__MACOSX" / "x.dcm").write_bytes(b"")
    assert names_below(tmp_path / "b") == []


def test_bytes_of_a_name_that_are_no_text_are_shown():
    assert printable(os.fsdecode(b"/a/Sch\xe4del.dcm")) == "/a/Sch\\xe4del.dcm"
    assert printable("/a/Sch\xe4del.dcm") == "/a/Sch\xe4del.dcm"


def test_the_window_of_a_picture_is_part_of_its_stamp(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"1234")
    assert stamp(Picture(str(path), 40.0, 80.0)) == (4, 40.0, 80.0)


def test_a_date_in_the_future_is_part_of_the_stamp_and_no_change(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    then = path.stat().st_mtime_ns
    assert stamp(path) == (4,) and changed_since(path, then - 1) and not changed_since(path, then)
    later = time.time_ns() + 10**15  # twelve days
    os.utime(path, ns=(later, later))
    assert stamp(path) == (4, later) and not changed_since(path, then)


def test_whatever_a_decoder_raises_becomes_a_cause():
    assert cause_of_failure(ValueError("truncated: x")) == "truncated: x"
    denied = PermissionError(errno.EACCES, "Permission denied", "f")
    assert cause_of_failure(denied) == "unreadable file: Permission denied"
    assert cause_of_failure(OverflowError("too large")) == "unreadable image: OverflowError"
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")
    assert cause_of_failure(error) == "unreadable image: UnicodeDecodeError"


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    with pytest.raises(UserError, match=f"gone: cannot be listed .{os.strerror(errno.ENOENT)}."):
        list_files(tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("ID_1.dcm", "ID_1"), ("a.JPG", "a"), ("1.2.840.5", "1.2.840.5"), ("IM0001", "IM0001")],
)
def test_only_suffixes_of_images_are_taken_off(name, stem):
    assert without_suffix(name) == stem
