"""What the folders cost, and that nothing misses what --clean deletes."""

import shutil
import sys

import numpy as np
import pytest

from src.data.prepared import Prepared
from src.ensemble.ensemble_config import EnsembleConfig
from src.ensemble.gather import gather
from src.errors import UserError
from src.files import atomic_path, read_json, write_parquet
from src.report.disk import clean, human, look, main, report
from src.settings import load_settings
from src.training.runs import Run
from tests.ensemble.test_ensemble_command import FOLDS, NOISE, build, call
from tests.training.finished import predict
from tests.training.prepared import write_settings

COPIES = ("oof_hflip", "test_hflip", "train", "train_hflip", "probe")
LEFT = ("seed1.pt", "checkpoint.pt", "seed0_epoch2.safetensors")


def of_fold(run):
    """Everything a stage-1 fold can have, whose complete ones have test predictions already."""
    prepared, table = Prepared(run.settings.clean), run.predictions("test")
    for part in ("test", *COPIES):
        predict(run, prepared, part, table, np.ones((len(table), 4), np.float16))


def put(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


@pytest.fixture
def settings(tmp_path):
    """Two complete runs, an incomplete one, and what single views and killed processes leave."""
    settings = load_settings(build(tmp_path, lambda slices: slices) / "SETTINGS.json")
    for k in range(FOLDS):
        of_fold(Run("tiny/stage1/a", k, settings))
    for file in LEFT:
        put(Run("tiny/stage1/a", 0, settings).checkpoint.with_name(file), 1000)
        put(Run("other/stage1/b", 1, settings).checkpoint.with_name(file), 1000)
    put(settings.models / "other/stage1/b/fold1/train.parquet", 10)
    put(settings.clean / "volumes/.a.pack.123.partial", 100)
    put(settings.raw / ".mine.partial", 100)
    put(settings.checkpoints / "probes/256/raw/a.dcm", 50)
    return settings


def remaining(settings):
    """Files below all six folders, relative to their home."""
    home = settings.file.parent
    found = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    return {name for name in found if not name.endswith("/lock")}


def test_clean_deletes_exactly_what_can_be_made_again(settings):
    before = remaining(settings)
    disk = look(settings)
    expected = {f"model/tiny/stage1/a/fold{k}/{part}.parquet" for k in range(FOLDS) for part in COPIES}
    expected |= {f"model/tiny/stage1/a/fold{k}/{p}_embeddings.npy" for k in range(FOLDS) for p in COPIES}
    expected |= {f"checkpoint/tiny/stage1/a/fold0/{file}" for file in LEFT}
    expected |= {"clean_data/volumes/.a.pack.123.partial", "checkpoint/probes/256/raw/a.dcm"}
    size = sum((settings.file.parent / name).stat().st_size for name in expected)
    assert clean(disk) == (len(expected), size)
    assert before - remaining(settings) == expected
    assert look(settings).again() == []


def test_after_clean_every_run_is_valid_and_the_blend_scores_the_same(settings, monkeypatch):
    home = settings.file.parent
    scores = read_json(call(home, monkeypatch) / "scores.json")
    complete = [run for run in look(settings).runs if run.complete]
    assert [run.name for run in complete] == [name for name in NOISE for _ in range(FOLDS)]
    assert clean(look(settings))[0] > 0
    for run in complete:
        assert run.complete
        assert run.has("test", Prepared(settings.clean).test_fingerprint)
        assert run.intact("oof.parquet").exists()
    for k in range(FOLDS):
        assert Run("tiny/stage1/a", k, settings).embeddings("test").shape[1] == 4
    assert len(gather(settings, "tiny", EnsembleConfig(replicates=100)).runs) == 2 * FOLDS
    shutil.rmtree(settings.submissions)
    assert read_json(call(home, monkeypatch) / "scores.json") == scores


def test_what_is_being_written_stays(settings):
    with atomic_path(settings.models / "new.bin") as temporary:
        clean(look(settings))
        assert temporary.exists()


def test_nothing_is_deleted_while_a_fold_is_trained(settings, monkeypatch):
    monkeypatch.setattr("src.training.runs.PATIENCE", 0.1)
    before = remaining(settings)
    with (
        Run("other/stage1/b", 1, settings).lock(),
        pytest.raises(UserError, match="b fold 1: another process"),
    ):
        clean(look(settings))
    assert remaining(settings) == before


def test_the_tables_count_every_file_once(settings):
    nested = load_settings(write_settings(settings.file.parent, LOGS_DIR="model/logs"))
    put(nested.logs / "tiny.log", 12)
    put(Run("tiny/stage2/s", 1, nested).path("model.safetensors"), 7_400)
    disk = look(nested)
    assert {path: size for path, size in disk.folders["LOGS_DIR"].items()} == {nested.logs / "tiny.log": 12}
    assert nested.logs / "tiny.log" not in disk.folders["MODEL_DIR"]
    lines = [line.split("  ") for line in report(disk).splitlines()]
    cells = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}
    assert cells["LOGS_DIR"][:3] == ["12 bytes", "1", "0 bytes"]
    assert cells["RAW_DATA_DIR"][1:3] == ["2", "0 bytes"]
    assert cells["other/stage1/b"] == ["0 of 1", "0 bytes", "0 bytes", "0 bytes", "3.0 kB", "0 bytes"]
    assert cells["tiny/stage2/s"][:2] == ["3 of 3", "7.4 kB"]
    test = [Run("tiny/stage1/a", k, nested).path("test_embeddings.npy").stat().st_size for k in range(FOLDS)]
    assert cells["tiny/stage1/a"][2] == human(sum(test))


SIZES = {0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 9_949: "9.9 kB", 9_950: "10 kB", 999_499: "999 kB"}
SIZES |= {999_500: "1.0 MB", 20_000_000_000: "20 GB", 10**16: "10000 TB"}


@pytest.mark.parametrize("size, text", SIZES.items())
def test_sizes_are_in_powers_of_a_thousand(size, text):
    assert human(size) == text


def test_folders_that_are_not_there_are_one_clear_line(tmp_path, monkeypatch, capsys):
    file = write_settings(tmp_path)
    monkeypatch.setattr(sys, "argv", ["disk", "--settings", str(file), "--clean"])
    main()
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{file}: nothing lies in its six folders yet; begin with prepare_data.py"
    assert last == "deleted 0 files, 0 bytes"
    assert list(tmp_path.iterdir()) == [file]


def test_the_command_says_what_it_deleted(settings, monkeypatch, capsys):
    write_parquet(settings.models / "other/stage1/b/fold1/oof.parquet", Prepared(settings.clean).folds)
    monkeypatch.setattr(sys, "argv", ["disk", "--settings", str(settings.file)])
    main()
    assert "can be made again; --clean deletes it" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["disk", "--settings", str(settings.file), "--clean"])
    main()
    assert (
        capsys.readouterr().out.splitlines()[-1].startswith(f"deleted {2 * FOLDS * len(COPIES) + 5} files, ")
    )
