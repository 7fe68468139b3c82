"""timm and segmentation-models-pytorch import beside any build of torch, and `import src` stays light."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def python(code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    "code",
    [
        "import src, timm, segmentation_models_pytorch",
        "import importlib.util; import src; importlib.util.find_spec('torchvision'); import timm",
        "import src, src.torchvision_hook as h; h.install(); h.install(); import torchvision.transforms.v2",
    ],
)
def test_imports_work_in_a_fresh_interpreter(code):
    answer = python(code)
    assert answer.returncode == 0, answer.stderr


def test_importing_src_does_not_import_torch():
    answer = python("import src, sys; print('torch' in sys.modules, 'torchvision' in sys.modules)")
    assert answer.stdout.split() == ["False", "False"], answer.stderr
