"""Files appear complete or not at all."""

import errno

import pandas as pd
import pytest

from src.errors import UserError
from src.files import (
    atomic_path,
    fingerprint,
    parquet_made_from,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
)


def test_a_write_that_fails_leaves_the_old_file_and_no_trace(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_the_system_refuses_names_the_file_in_its_own_words(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(OSError) as caught, atomic_path(path):
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")
    assert (caught.value.filename, caught.value.strerror) == (str(path), "No space left on device")
    with pytest.raises(FileNotFoundError, match="other"), atomic_path(path):
        (tmp_path / "other").read_bytes()
    with pytest.raises(UserError, match="wrong"), atomic_path(path):
        try:
            (tmp_path / "other").read_bytes()
        except OSError:
            raise UserError("wrong") from None
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"score": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_damaged_json_names_the_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": ')
    with pytest.raises(UserError, match=r"a.json: not valid JSON .* run its step again"):
        read_json(path)


def test_a_fingerprint_ignores_the_order_of_keys_and_sees_every_value():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5}) != fingerprint({"a": [1]})


def test_a_table_written_twice_has_the_same_bytes(tmp_path):
    frame = pd.DataFrame({"image_id": ["a", "b"], "any": [0.25, 0.5]})
    write_parquet(tmp_path / "a.parquet", frame)
    write_parquet(tmp_path / "b.parquet", frame)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_table_says_what_it_was_made_from(tmp_path):
    frame, path = pd.DataFrame({"image_id": ["a", "b"], "any": [0.25, 0.5]}), tmp_path / "a.parquet"
    write_parquet(path, frame, {"run": "1234", "studies": {"s": "5"}})
    pd.testing.assert_frame_equal(read_parquet(path), frame)
    assert parquet_made_from(path) == {"run": "1234", "studies": {"s": "5"}}
    write_parquet(path, frame)
    assert parquet_made_from(path) == {}


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_table_that_is_cut_off_is_named(tmp_path, kept):
    path = tmp_path / "a.parquet"
    write_parquet(path, pd.DataFrame({"any": range(100)}))
    path.write_bytes(path.read_bytes()[:kept])
    for read in (read_parquet, parquet_made_from):
        with pytest.raises(UserError, match=r"a.parquet: damaged \(.*\); delete it and run its step again"):
            read(path)


def test_values_that_were_overwritten_are_noticed(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, pd.DataFrame({"any": [0.1 * k for k in range(100)]}))
    data = path.read_bytes()
    for start in range(100, 700, 60):
        path.write_bytes(data[:start] + bytes(50) + data[start + 50 :])
        with pytest.raises(UserError, match=r"a\.parquet: damaged"):
            read_parquet(path)
