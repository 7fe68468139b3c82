"""The engine: a continued run equals an uninterrupted one to the last bit; errors say what to do."""

import logging
import os
import signal

import pytest
import torch
from torch import nn

from src.errors import UserError
from src.training.engine.curves import curve_writer
from src.training.engine.loop import Interrupted, Task, build_schedule, train
from src.training.engine.training_config import TrainingConfig

LOG = logging.getLogger("test")
CPU = torch.device("cpu")


class NoisyBatches:
    """Six batches an epoch of a regression on eight inputs; `at` runs before a global batch number."""

    steps = 6

    def __init__(self, at=None):
        self.at = at or {}

    def epoch(self, epoch, start=0):
        for index in range(start, self.steps):
            if (event := self.at.get(epoch * self.steps + index)) is not None:
                event()
            generator = torch.Generator().manual_seed(1000 * epoch + index)
            x = torch.randn(4, 8, generator=generator)
            yield {"ids": [f"batch{index}"], "x": x, "y": x.sum(1, keepdim=True)}


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))


def run(checkpoint, config, batches=None, origin="f"):
    def loss(model, batch):
        return (model(batch["x"]) - batch["y"]).square().mean()

    task = Task(network(), batches or NoisyBatches(), loss, validate=lambda model: 0.5)
    return train(task, config, CPU, checkpoint, origin, LOG)


class Killed(BaseException):
    """Stands for a process that is gone: nothing after it runs."""


def killed():
    raise Killed


@pytest.mark.parametrize("moment", [1, 4, 5, 6, 11, 17])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ema_decay": 0.9},
        {"accumulation": 4, "optimizer": "sgd"},
        {"schedule": "constant", "warmup": 0.5},
    ],
)
def test_killed_at_any_batch_and_continued_equals_uninterrupted(tmp_path, options, moment):
    config = TrainingConfig(epochs=3, lr=0.01, checkpoint_steps=2, **options)
    expected, expected_progress = run(tmp_path / "a", config)
    with pytest.raises(Killed):
        run(tmp_path / "b", config, NoisyBatches({moment: killed}))
    model, progress = run(tmp_path / "b", config)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert progress.history == expected_progress.history


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_state_and_stops(tmp_path, kind):
    config = TrainingConfig(epochs=2, lr=0.01, checkpoint_steps=1000)
    expected, _ = run(tmp_path / "a", config)
    batches = NoisyBatches({3: lambda: os.kill(os.getpid(), kind)})
    with pytest.raises(Interrupted, match="stopped at step 4 of 12"):
        run(tmp_path / "b", config, batches)
    model, _ = run(tmp_path / "b", config)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_a_signal_at_the_last_batch_of_an_epoch_leaves_its_validation_for_later(tmp_path):
    config = TrainingConfig(epochs=2, lr=0.01, checkpoint_steps=1000)
    _, expected = run(tmp_path / "a", config)
    batches = NoisyBatches({5: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(Interrupted, match="stopped at step 6 of 12"):
        run(tmp_path / "b", config, batches)
    _, progress = run(tmp_path / "b", config)
    assert progress.history == expected.history and len(progress.history) == 2


def test_a_checkpoint_is_written_when_the_minutes_are_over(tmp_path):
    config = TrainingConfig(epochs=1, lr=0.01, checkpoint_steps=1000, checkpoint_minutes=1e-9)
    with pytest.raises(Killed):
        run(tmp_path / "b", config, NoisyBatches({4: killed}))
    assert torch.load(tmp_path / "b", weights_only=True)["progress"]["step"] == 4


def test_a_compiled_model_has_the_same_weights_by_the_same_names(tmp_path, monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", lambda self: setattr(self, "was_compiled", True))
    model, _ = run(tmp_path / "a", TrainingConfig(epochs=1, lr=0.01, compile=True))
    plain, _ = run(tmp_path / "b", TrainingConfig(epochs=1, lr=0.01))
    assert model.was_compiled and list(model.state_dict()) == list(plain.state_dict())


def test_curves_are_written_for_those_who_want_them_alone(tmp_path):
    with curve_writer(False, tmp_path / "curves") as write:
        write({"epoch": 1})
    assert not (tmp_path / "curves").exists()


def test_continuing_says_where(tmp_path, caplog):
    config = TrainingConfig(epochs=2, lr=0.01, checkpoint_steps=2)
    with pytest.raises(Killed):
        run(tmp_path / "b", config, NoisyBatches({5: killed}))
    with caplog.at_level(logging.INFO):
        run(tmp_path / "b", config)
    assert "resumed at step 4" in caplog.text


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    config = TrainingConfig(epochs=1, lr=0.01)
    run(tmp_path / "b", config)
    with pytest.raises(UserError, match=r'data set \("f", now "other"\); delete it'):
        run(tmp_path / "b", config, origin="other")


@pytest.mark.parametrize("kept", [0, 100, 3000])
def test_a_damaged_checkpoint_is_an_error_with_the_remedy(tmp_path, kept):
    config = TrainingConfig(epochs=1, lr=0.01)
    run(tmp_path / "b", config)
    (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes()[:kept])
    with pytest.raises(UserError, match=r"b: damaged; delete it to start this fold afresh"):
        run(tmp_path / "b", config)


def test_a_loss_that_is_not_finite_names_step_and_batch_and_saves_nothing_after_it(tmp_path):
    class Broken(NoisyBatches):
        def epoch(self, epoch, start=0):
            for index, batch in enumerate(super().epoch(epoch, start), start):
                if index == 3:
                    batch["y"] = batch["y"] * float("nan")
                yield batch

    config = TrainingConfig(epochs=1, lr=0.01, checkpoint_steps=1)
    with pytest.raises(UserError, match=r"nan at step 4 \(batch: batch3\)"):
        run(tmp_path / "b", config, Broken())
    assert torch.load(tmp_path / "b", weights_only=True)["progress"]["step"] == 3


def test_warm_up_rises_linearly_and_the_cosine_ends_near_zero():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_schedule(optimizer, TrainingConfig(lr=1.0, warmup=0.2), total=100)
    rates = []
    for step in range(100):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[10] == pytest.approx(0.01 + 0.99 / 2)
    assert rates[20] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert max(rates) == rates[20]


def test_the_moving_average_forgets_the_start_of_a_short_run(tmp_path):
    config = TrainingConfig(epochs=2, lr=0.05, ema_decay=0.999)
    averaged, _ = run(tmp_path / "a", config)
    plain, _ = run(tmp_path / "b", TrainingConfig(epochs=2, lr=0.05))
    start = network()
    moved = (plain[0].weight - start[0].weight).norm()
    assert (averaged[0].weight - start[0].weight).norm() > 0.4 * moved
