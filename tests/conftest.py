"""Shared fixtures. One thread per process, no network, the real data found by ICH_REALDATA."""

import os
import signal
import tarfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

import src  # noqa: F401  (installs the torchvision hook before anything imports torchvision)

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """A shell's job in the background ignores Ctrl-C, and so would every process that a test interrupts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real data, read-only; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("ICH_REALDATA", ROOT.parent / "shared" / "realdata"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set ICH_REALDATA to the folder that holds rsna2019_dicom_dev")
    return folder


def _unpack(archives: list[Path], folder: Path) -> list[Path]:
    for archive in archives:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    return sorted(folder.rglob("*.dcm"))


@pytest.fixture(scope="session")
def real_train(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The 375 training slices of RSNA."""
    return _unpack(
        sorted((realdata / "rsna2019_dicom_dev").glob("*.tar.xz")), tmp_path_factory.mktemp("train")
    )


@pytest.fixture(scope="session")
def real_test(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The 32 slices of a test study of RSNA."""
    archives = sorted((realdata / "rsna2019_dicom_unlabelled_test").glob("*.tar.xz"))
    return _unpack(archives, tmp_path_factory.mktemp("test"))


@pytest.fixture(scope="session")
def real_ge(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """28 slices of a GE scanner with a tilted gantry."""
    return _unpack([realdata / "ge_head_tilt_dicom" / "GE_28slices.tar.xz"], tmp_path_factory.mktemp("ge"))


@pytest.fixture(scope="session")
def real_bare(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 slices in HU without rescale tags, and their masks."""
    folder = tmp_path_factory.mktemp("bare")
    _unpack([realdata / "physionet_ctich_hu_masks" / "hu_slices_and_masks.tar.xz"], folder)
    (folder / "labels.csv").write_bytes((realdata / "physionet_ctich_hu_masks" / "labels.csv").read_bytes())
    return folder
