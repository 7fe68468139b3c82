"""Out of GPU memory: the largest batch that fits, as advice."""

import logging

import pytest
import torch
from torch import nn

from src.errors import UserError
from src.training.engine.loop import Task, train
from src.training.engine.memory import first_samples, largest_batch
from src.training.engine.training_config import TrainingConfig


def batch_of(size):
    return {
        "ids": [str(k) for k in range(size)],
        "x": torch.arange(float(size)),
        "windows": torch.zeros(1, 3),
        "weight": 0.5,
    }


def gpu_with_room_for(most):
    def attempt(batch):
        if len(batch["x"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return attempt


@pytest.mark.parametrize("fits", [0, 1, 5, 23, 31])
def test_bisection_finds_the_largest_batch(fits):
    assert largest_batch(gpu_with_room_for(fits), batch_of(32)) == fits


def test_a_part_of_a_batch_keeps_what_all_samples_share():
    part = first_samples(batch_of(8), 3)
    assert part["ids"] == ["0", "1", "2"] and len(part["x"]) == 3 and part["windows"].shape == (1, 3)
    assert part["weight"] == 0.5


@pytest.mark.parametrize(
    ("room", "message"),
    [
        (12, "batch_size 32; the largest that fits is 12: --set batch_size=12 --set accumulation=3"),
        (0, "too little memory for a single sample; lower image_size"),
    ],
)
def test_training_ends_with_the_advice(tmp_path, room, message):
    class Batches:
        steps = 2

        def epoch(self, epoch, start=0):
            for _ in range(start, self.steps):
                yield batch_of(32)

    def loss(model, batch):
        gpu_with_room_for(room)(batch)
        return model(batch["x"][:, None]).mean()

    task = Task(nn.Linear(1, 1), Batches(), loss, lambda model: 0.0)
    config = TrainingConfig(batch_size=32, epochs=1)
    with pytest.raises(UserError, match=message):
        train(task, config, torch.device("cpu"), tmp_path / "c", "f", logging.getLogger("test"))
