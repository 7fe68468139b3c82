"""The loop of prediction that every kind shares: batches, views, mixed precision, means."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from ...models.heads import logits_of, probabilities
from ..engine.precision import Batch, autocast, autocast_type, to_device
from .slice_config import PixelConfig
from .views import VIEWS

Answer = tuple[torch.Tensor, torch.Tensor]  # logits (k, columns), embeddings (k, d)


def predict_batches(
    model: nn.Module,
    batches: Iterator[Batch],
    answer: Callable[[torch.Tensor, Batch], Answer],
    width: int,
    config: PixelConfig,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, columns) of the mean probability over the TTA views, and mean embeddings (n, d), float32.

    answer(hu, batch): what the network says of one look at a batch; width: d, for no batch at all.
    """
    model.eval()
    kind, targets = autocast_type(config.precision, device), config.predicted
    logits = [torch.empty(0, len(targets.columns))]
    embeddings = [torch.empty(0, width)]
    with torch.inference_mode():
        for batch in batches:
            batch = to_device(batch, device)
            views = [VIEWS[name](batch["hu"]) for name in config.tta]  # in full precision
            with autocast(kind, device):
                answers = [answer(hu, batch) for hu in views]
            mean = torch.stack([probabilities(said, targets) for said, _ in answers]).mean(0)
            logits.append(logits_of(mean, targets).float().cpu())
            embeddings.append(torch.stack([stored.float() for _, stored in answers]).mean(0).cpu())
    return torch.cat(logits).numpy(), torch.cat(embeddings).numpy()
