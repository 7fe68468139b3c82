"""The volume files: exact, checked, complete or absent."""

import numpy as np
import pytest

from src.data.pack import MAGIC, Entry, Pack, compress, decompress, write_pack
from src.errors import UserError


def entries(count: int = 5, size: int = 16) -> list[Entry]:
    rng = np.random.default_rng(0)
    slices = [rng.integers(-32768, 32768, (size, size)).astype(np.int16) for _ in range(count)]
    return [Entry(f"I{n}", "S", values, {"pixel_hash": str(n)}) for n, values in enumerate(slices)]


def read(pack: Pack, rows: list[int]) -> np.ndarray:
    out = np.empty((len(rows), *pack.shape), dtype=np.int16)
    pack.read(np.array(rows, dtype=int), out, np.arange(len(rows)))
    return out


def test_compression_is_exact_over_the_whole_range():
    values = np.arange(-32768, 32768).astype(np.int16).reshape(256, 256)
    assert (decompress(compress(values), (256, 256)) == values).all()


def test_slices_come_back_in_any_order(tmp_path):
    stored = entries()
    write_pack(tmp_path / "a.pack", stored, 16, {"studies": {}})
    pack = Pack(tmp_path / "a.pack")
    for rows in ([0, 1, 2, 3, 4], [4, 0, 2], [3, 3], []):
        assert (read(pack, rows) == np.array([stored[r].values for r in rows]).reshape(-1, 16, 16)).all()
    assert pack.index.column("image_id").to_pylist() == ["I0", "I1", "I2", "I3", "I4"]
    assert pack.metadata["dtype"] == "<i2" and pack.metadata["shape"] == [16, 16]


def test_the_same_slices_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_pack(tmp_path / name, entries(), 16, {"b": 1, "a": 2} if name == "a" else {"a": 2, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_image_that_could_not_be_decoded_is_listed_without_bytes(tmp_path):
    first, *rest = entries(3)
    broken = Entry("X", "S", None, {"cause": "truncated"})
    write_pack(tmp_path / "a.pack", [first, broken, *rest], 16, {})
    pack = Pack(tmp_path / "a.pack")
    assert pack.index.column("cause").to_pylist() == [None, "truncated", None, None]
    assert pack.index.column("length").to_pylist()[1] == 0
    assert (read(pack, [0, 2, 3])[1] == rest[0].values).all()


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.pack"
    write_pack(path, entries(), 16, {})
    data = bytearray(path.read_bytes())
    data[len(MAGIC) + 700] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.pack: .*a slice fails its checksum; run prepare_data\.py again"):
        Pack(path).verify()
    with pytest.raises(UserError, match="fails its checksum"):
        read(Pack(path), [0, 1, 2])


@pytest.mark.parametrize("keep", [0, 10, -1, -30])
def test_a_file_that_is_cut_off_is_refused(tmp_path, keep):
    path = tmp_path / "a.pack"
    write_pack(path, entries(), 16, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="no index at its end"):
        Pack(path)


def test_a_damaged_index_is_refused(tmp_path):
    path = tmp_path / "a.pack"
    write_pack(path, entries(), 16, {})
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="its index fails its checksum"):
        Pack(path)


def test_a_failure_leaves_no_file(tmp_path):
    def failing():
        yield entries(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pack(tmp_path / "a.pack", failing(), 16, {})
    assert list(tmp_path.iterdir()) == []
