"""Learning curves as TensorBoard events, for those who watch a run from a browser."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import UserError


@contextmanager
def curve_writer(wanted: bool, folder: Path) -> Iterator[Callable[[dict[str, float]], None]]:
    """A function that takes an entry of the history after every epoch; it does nothing unless wanted."""
    if not wanted:
        yield lambda entry: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("tensorboard is not installed; run: pip install -r requirements-extra.txt") from None
    with SummaryWriter(str(folder)) as writer:

        def write(entry: dict[str, float]) -> None:
            for name in ("train_loss", "valid_loss", "lr"):
                writer.add_scalar(name, entry[name], int(entry["step"]))
            writer.flush()  # a killed run keeps what it had

        yield write
