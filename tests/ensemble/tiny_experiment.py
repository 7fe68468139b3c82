"""The configurations of a tiny experiment: every kind of member."""

PIXELS = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8}
STACKED = {"members": ["tiny/stage1/a"], "width": 8, "hidden": 8, "epochs": 1, "stacker": "gru"}
CONFIGS = {
    "tiny/stage1/a": ("slice", PIXELS | {"neighbours": [-1, 0, 1]}),
    "tiny/stage1/b": ("sequence", PIXELS | {"kind": "sequence", "batch_size": 2, "length": 3}),
    "tiny/stage2/aligned": (
        "stacker",
        STACKED | {"embedding_space": "aligned", "slice_dropout": 0.1, "study_weight": 0.3},
    ),
    "tiny/stage2/in_fold": ("stacker", STACKED | {"embedding_space": "in_fold", "views": ["hflip"]}),
    "tiny/stage2/trees": (
        "stacker",
        {
            "members": ["tiny/stage1/a"], "stacker": "boosting", "inputs": ["logits"],
            "boosting": {"rounds": 9},
        },
    ),
}  # fmt: skip
FOLDS = (0, 1)
