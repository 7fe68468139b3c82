"""Shared fixtures. One thread per process, no network, the real data found by ICH_REALDATA."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

import src  # noqa: F401  (installs the torchvision hook before anything imports torchvision)

ROOT = Path(__file__).resolve().parent.parent


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
