"""Loading is reading: nothing that the project opens is run, wherever it comes from."""

import ast
import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from src.errors import UserError
from src.files import file_sha256, read_json, write_json
from src.settings import load_settings
from src.training.runs import Run
from tests.conftest import ROOT

FORBIDDEN = {
    "eval", "exec", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load",
    "joblib.load", "joblib.dump", "marshal.load", "marshal.loads", "shelve.open", "pd.read_pickle",
    "pd.eval", "yaml.load", "yaml.safe_load", "runpy.run_path", "os.system", "os.popen", "torch.jit.load",
    "torch.hub.load", "torch.package.PackageImporter", "tarfile.open", "shutil.unpack_archive",
}  # fmt: skip
ASKED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", None)}  # None: not given at all
FORBIDDEN_OPTIONS = {"shell", "trust_remote_code", "allow_pickle"}


def sources() -> list[Path]:
    return [*ROOT.glob("*.py"), *(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def faults_of(name: str, call: ast.Call) -> Iterator[str]:
    options = {option.arg: option.value for option in call.keywords}
    if name in FORBIDDEN or name.endswith((".extractall", ".extract")):
        yield f"calls {name}"
    if name in ASKED:
        option, wanted = ASKED[name]
        given = ast.literal_eval(options[option]) if option in options else None
        if given is not wanted:
            yield f"{name} with {option} {given}"
    yield from (f"{name} with {option}" for option in options if option in FORBIDDEN_OPTIONS)


def test_the_source_has_no_call_that_runs_what_it_loads():
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {fault}"
        for path in sources()
        for name, call in calls(path)
        for fault in faults_of(name, call)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)",
        "pickle.load(f)", "eval(x)", "run(x, shell=True)", "archive.extractall(x)",
        "AutoModel.of(x, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(text):
    call = ast.parse(text, mode="eval").body
    assert list(faults_of(ast.unparse(call.func), call))


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def payloads(marker: Path) -> dict[str, bytes]:
    """Files that run a command in a reader that trusts them, by their format."""
    evil, found = Evil(marker), {}
    found["pickle"] = pickle.dumps(evil)
    found["nested pickle"] = pickle.dumps({"fingerprint": "x", "model": evil, "state_dict": evil})
    for name, zipped in (("torch", True), ("old torch", False)):
        file = io.BytesIO()
        torch.save({"fingerprint": evil}, file, _use_new_zipfile_serialization=zipped)
        found[name] = file.getvalue()
    for name, save in (("npy", np.save), ("npz", np.savez)):
        file = io.BytesIO()
        save(file, np.array([evil], dtype=object), allow_pickle=True)
        found[name] = file.getvalue()
    return found


@pytest.fixture
def marker(tmp_path):
    """The folder that would be there; a test that uses it must not leave it."""
    yield tmp_path / "executed"
    assert not (tmp_path / "executed").exists()


def test_the_payloads_run_in_a_reader_that_trusts_them(tmp_path):
    readers: dict[str, Callable] = dict.fromkeys(("pickle", "nested pickle"), pickle.load)
    readers |= dict.fromkeys(("torch", "old torch"), lambda file: torch.load(file, weights_only=False))
    readers |= {"npy": lambda file: np.load(file, allow_pickle=True)}
    readers |= {"npz": lambda file: np.load(file, allow_pickle=True)["arr_0"]}
    for name, data in payloads(tmp_path / "executed").items():
        readers[name](io.BytesIO(data))
        (tmp_path / "executed").rmdir()


KINDS = tuple(payloads(Path("x")))


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_not_run(tmp_path, marker, kind):
    from src.training.engine.state import TrainingState
    from src.training.engine.training_config import TrainingConfig

    path = tmp_path / "checkpoint.pt"
    path.write_bytes(payloads(marker)[kind])
    model = torch.nn.Linear(2, 1)
    state = TrainingState(model, lambda *_: None, TrainingConfig(), torch.device("cpu"), 4)
    with pytest.raises(UserError, match=r"checkpoint\.pt: damaged; delete it"):
        state.load(path, "x")


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".pt", ".npz", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_pretrained_weights_are_not_run(tmp_path, marker, kind, suffix):
    from src.models.backbones import create_backbone

    path = tmp_path / f"weights{suffix}"
    path.write_bytes(payloads(marker)[kind])
    with pytest.raises(UserError, match=rf"pretrained .*weights\{suffix}: "):
        create_backbone("test_vit", 3, str(path), image_size=160)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_a_folder_are_not_run(tmp_path, marker, kind):
    from src.models.backbones import create_backbone

    write_json(tmp_path / "config.json", {"architecture": "test_resnet"})
    (tmp_path / "pytorch_model.bin").write_bytes(payloads(marker)[kind])
    with pytest.raises(UserError, match="pretrained"):
        create_backbone("test_resnet", 3, str(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_vivit_are_not_run(tmp_path, marker, kind):
    pytest.importorskip("transformers")
    from src.models.vivit import _stored

    for suffix in (".bin", ".pth", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(payloads(marker)[kind])
        with pytest.raises(UserError, match="no weights can be read from it"):
            _stored(path)


FILES = ("model.safetensors", "model.txt", "oof.parquet", "test.parquet", "embeddings.npy", "config.json")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", FILES)
def test_the_files_of_a_run_are_not_run(tmp_path, marker, file, kind):
    """Not even where their checksums were made to agree."""
    from src.training.slices.slice_config import SliceConfig

    keys = ("RAW_DATA", "CLEAN_DATA", "MODEL", "CHECKPOINT", "LOGS", "SUBMISSION")
    write_json(tmp_path / "SETTINGS.json", {f"{key}_DIR": key.lower() for key in keys})
    run = Run("tiny/stage1/a", 0, load_settings(tmp_path / "SETTINGS.json"))
    path = run.path(file)
    path.parent.mkdir(parents=True)
    path.write_bytes(payloads(marker)[kind])
    write_json(run.folder / "metrics.json", {"files": {file: file_sha256(path)}, "made_from": {}})
    part = file.split(".")[0]
    open_it = {
        "model.safetensors": lambda: run.load_weights(torch.nn.Linear(1, 1)),
        "model.txt": lambda: _trees(run),
        "oof.parquet": lambda: run.predictions(part),
        "test.parquet": lambda: run.predictions(part),
        "embeddings.npy": lambda: _embeddings(run, path),
        "config.json": lambda: run.read_config(SliceConfig),
    }[file]
    with pytest.raises(UserError, match=file):
        open_it()


def _embeddings(run: Run, path: Path) -> np.ndarray:
    from src.files import write_parquet

    table = pd.DataFrame({"image_id": ["a"]})
    write_parquet(run.path("oof.parquet"), table, {"embeddings": file_sha256(path)})
    return run.embeddings("oof")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_is_not_run(tmp_path, marker, kind):
    """Its own manifest agrees with every file."""
    from src.ensemble.answering.predictor import Predictor

    path = tmp_path / "bundle.zip"
    path.write_bytes(payloads(marker)[kind])
    with pytest.raises(UserError, match=r"bundle\.zip: "):
        Predictor.from_bundle(path, "cpu", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_put_in_the_place_of_a_prepared_file_is_not_run(tmp_path, marker, kind):
    from src.data.prepared import Prepared
    from src.training.split import labelled_slices
    from tests.training.prepared import write_clean

    write_clean(tmp_path / "whole")
    images = Prepared(tmp_path / "whole").slices["image_id"]
    for path in sorted(path for path in (tmp_path / "whole").rglob("*") if path.is_file()):
        shutil.rmtree(tmp_path / "clean", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "clean")
        name = path.relative_to(tmp_path / "whole")
        (tmp_path / "clean" / name).write_bytes(payloads(marker)[kind])
        with pytest.raises(UserError, match=name.name):
            prepared = Prepared(tmp_path / "clean")
            prepared.volumes.slice(images.iloc[0])
            labelled_slices(prepared)
            len(prepared.folds), len(prepared.studies)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a.dcm", "a.png", "a.jpg", "a.nii", "a.nii.gz", "a.zip"])
def test_an_image_is_not_run(tmp_path, marker, kind, name):
    pytest.importorskip("nibabel")
    from src.data.incoming.find import find_studies
    from src.data.incoming.study import prepare_study
    from src.data.preparation.options import Options
    from src.data.preparation.prepare import prepare

    path = tmp_path / "raw" / name
    path.parent.mkdir()
    path.write_bytes(payloads(marker)[kind])
    geometry = {"size": 256, "crop": False, "remove_holder": False, "correct_tilt": False}
    with pytest.raises(UserError):
        for study in find_studies(path, tmp_path):
            prepare_study(study, geometry, tmp_path / "study")
    if name != "a.zip":
        (tmp_path / "raw/t.csv").write_text(f"path,any\n{name},0\n")
        for dataset, table in (("table", "t.csv"), ("dicom", None), ("nifti", None)):
            try:
                prepare(tmp_path / "raw", tmp_path / dataset, Options(dataset, table=table, size=256))
            except UserError as error:
                assert "raw" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_not_run(tmp_path, marker, kind):
    """Settings, configurations, tables, submissions."""
    from src.data.contest_csv import read_labels
    from src.data.readers.table_rows import read_rows
    from src.training.kinds import load_run_config

    path = tmp_path / "experiments/tiny/stage1/a.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(payloads(marker)[kind])
    for read in (
        read_json,
        read_labels,
        read_rows,
        load_settings,
        lambda p: load_run_config(p, "stage1", []),
    ):
        with pytest.raises(UserError, match=r"a\.json"):
            read(path)


def test_a_program_among_the_words_of_a_configuration_is_a_word(tmp_path, marker):
    from src.training.kinds import load_run_config

    program = f"__import__('os').mkdir('{marker}')"
    path = tmp_path / "experiments/tiny/stage1/a.json"
    write_json(path, {"backbone": "test_resnet", "notes": program})
    _, config = load_run_config(path, "stage1", [f'source="{program}"'])
    assert config.notes == config.source == program
    with pytest.raises(UserError):
        load_run_config(path, "stage1", [f"lr={program}"])


def _trees(run: Run):
    from src.training.studies.boosted_stacker import read_boosted

    return read_boosted(run)
