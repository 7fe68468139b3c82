"""Hostile and broken files: read or refused with a cause, within 20 s and 2 GiB each, nothing written."""

import pytest

from tests.faults.forms import long_form, record_faults
from tests.faults.killing import context
from tests.faults.mutants import try_mutants

MUTANTS = 24_000 if long_form() else 600
SHARES = {
    "DICOM": 0.4, "CSV": 0.15, "JSON": 0.15, "Parquet": 0.1, "NIfTI": 0.05, "NIfTI, gzip": 0.05, "zip": 0.07,
    "safetensors": 0.03,
}  # fmt: skip


@pytest.mark.parametrize("kind", SHARES)
def test_mutants_are_read_or_refused(tmp_path, kind):
    number = int(MUTANTS * SHARES[kind])
    (tmp_path / "in").mkdir()
    process = context.Process(target=try_mutants, args=(kind, number, 1, str(tmp_path / "in")))
    process.start()
    process.join()
    problem = tmp_path / "in/problem.txt"
    assert not problem.exists(), problem.read_text()
    assert process.exitcode == 0
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {"a.parquet"}
    assert left == {"refused.txt"}
    refused = int((tmp_path / "in/refused.txt").read_text())
    assert 0 < refused <= number
    record_faults("mutants", kind, {"tried": number, "refused": refused})
