"""A small prepared data set to draw replicates from, and configurations that train on it in a moment."""

from src.files import write_json
from src.labels import LABELS
from src.settings import load_settings
from tests.training.prepared import rewrite, write_clean, write_settings

TINY = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8}
CONFIGS = {
    "tiny/stage1/a": TINY,
    "tiny/stage1/b": TINY | {"lr": 0.01, "epochs": 10},
    "tiny/stage1/video": TINY | {"kind": "video", "targets": "presence", "frames": 3, "batch_size": 2},
    "tiny/stage1/found": TINY | {"targets": "presence"},
    "tiny/stage1/after": TINY | {"pretrained": "run:tiny/stage1/a"},
    "tiny/stage2/trees": {
        "stacker": "boosting", "members": ["tiny/stage1/a"], "inputs": ["logits"],
        "embedding_space": "pooled", "boosting": {"rounds": 3, "slices_in_leaf": 2},
    },
}  # fmt: skip


def write_home(home):
    """Settings, 15 labelled studies of 3 slices, the even ones bleed (study 14 too), and CONFIGS."""
    settings = load_settings(write_settings(home))
    write_clean(settings.clean, studies=20, slices=3)

    def healthy(slices):
        odd = slices["study_id"].str[-2:].astype(int) % 2 == 1
        slices.loc[odd & (slices["split"] == "train"), list(LABELS)] = 0
        return slices

    rewrite(settings.clean, "slices.parquet", healthy)
    for name, values in CONFIGS.items():
        write_json(config_path(home, name), values)
    return settings


def config_path(home, name):
    return home / "experiments" / f"{name}.json"
