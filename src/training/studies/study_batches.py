"""Batches of studies for stage 2: augmented, of similar length, padded; functions of (seed, epoch, index)."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..engine import distributed
from ..engine.precision import Batch
from ..slices.slice_batches import prefetch
from .stacker_config import StackerConfig
from .study_inputs import StudyInputs, interpolate

SHORTEST_SUBSAMPLED = 10  # a study of fewer slices keeps all


class StudyBatches:
    """Training batches of studies of similar length, new ones each epoch."""

    def __init__(self, inputs: StudyInputs, config: StackerConfig):
        self.inputs, self.config = inputs, config
        self.steps = -(-len(inputs) // config.batch_size)
        self.current_epoch = 0

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        self.current_epoch = epoch
        rng = np.random.default_rng((self.config.seed, epoch))
        picks = draw_slices(self.inputs.lengths, self.config, rng)
        batches = bucketed(np.array([len(pick) for pick in picks]), self.config.batch_size, rng)
        copies = rng.integers(0, len(self.inputs.copies), len(picks))

        def build() -> Iterator[Batch]:
            for index in range(start, self.steps):
                studies = share(batches[index], distributed.rank(), distributed.world_size())
                own = [picks[study] for study in studies]
                draw = np.random.default_rng((self.config.seed, epoch, index))
                hidden = [draw_hidden(len(pick), self.config.slice_dropout, draw) for pick in own]
                yield collate(self.inputs, studies, own, hidden, copies[studies])

        return prefetch(build)


def share(studies: np.ndarray, rank: int, processes: int) -> np.ndarray:
    """The part of a batch that falls to one of several processes; none goes without a study."""
    return studies[rank % len(studies) :: processes]


def draw_slices(lengths: np.ndarray, config: StackerConfig, rng: np.random.Generator) -> list[np.ndarray]:
    """The slices each study gives in this epoch: every second one, a run of them, read from either end."""
    count = len(lengths)
    halved = (rng.random(count) < config.subsample) & (lengths > SHORTEST_SUBSAMPLED)
    phase, place = rng.integers(0, 2, count), rng.random(count)
    reverse = rng.random(count) < config.reverse
    picks = []
    for study, length in enumerate(lengths):
        pick = np.arange(length)
        if halved[study]:
            pick = pick[phase[study] :: 2]
        if config.crop is not None and len(pick) > config.crop:
            first = int(place[study] * (len(pick) - config.crop + 1))
            pick = pick[first : first + config.crop]
        picks.append(pick[::-1] if reverse[study] else pick)
    return picks


def draw_hidden(length: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """(length,) bool: slices to hide; one is always left."""
    hidden = rng.random(length) < share
    if hidden.all():
        hidden[rng.integers(length)] = False
    return hidden


def bucketed(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All studies once, in batches of similar length (little padding), batches in random order.

    Where there are enough studies of every length, batches have one length: nothing is padded.  Fewer are
    mixed with their neighbours in length, or the same studies would always meet.
    """
    spread = 0.0 if len(lengths) >= 4 * batch_size * len(np.unique(lengths)) else 2.0
    near = np.lexsort((rng.random(len(lengths)), lengths + rng.uniform(-spread, spread, len(lengths))))
    batches = [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def collate(
    inputs: StudyInputs,
    studies: np.ndarray,
    picks: Sequence[np.ndarray] | None = None,
    hidden: Sequence[np.ndarray] | None = None,
    copies: np.ndarray | None = None,
) -> Batch:
    """Pad studies to the longest: every array (b, s, k), `mask` (b, s) True for real slices.

    picks: the slices of every study, in the order to be read; hidden: which of those to treat as missing;
    copies: the copy of its inputs that each study is read from, else the first.
    `embeddings` are as stored (float16), `folds` (b, members) says whose they are.
    """
    copies = np.zeros(len(studies), int) if copies is None else copies
    values = [inputs.study(study, copy) for study, copy in zip(studies, copies, strict=True)]
    lengths = [len(v["position"]) for v in values] if picks is None else [len(pick) for pick in picks]
    shape = len(values), max(lengths)
    batch: Batch = {"ids": [str(inputs.image_ids[inputs.bounds[study]]) for study in studies]}
    batch["folds"] = torch.from_numpy(inputs.folds(studies))
    arrays = {
        "mask": np.zeros(shape, bool),
        "missing": np.zeros(shape, bool),
        "embeddings": np.zeros((*shape, sum(inputs.embedding_sizes)), np.float16),
    }
    for key in ("logits", "position", "labels"):
        if key in values[0]:
            arrays[key] = np.zeros((*shape, values[0][key].shape[1]), np.float32)
    for row, (value, length) in enumerate(zip(values, lengths, strict=True)):
        pick = slice(None) if picks is None else picks[row]
        missing, logits = value["missing"][pick], value["logits"][pick]
        if hidden is not None and hidden[row].any():
            missing = missing | hidden[row]
            logits = interpolate(logits, missing)
        arrays["mask"][row, :length] = True
        arrays["missing"][row, :length] = missing
        arrays["logits"][row, :length] = logits
        for key in ("position", "labels"):
            if key in arrays:
                arrays[key][row, :length] = value[key][pick]
        first = 0
        for part in value["embeddings"]:
            arrays["embeddings"][row, :length, first : first + part.shape[1]] = part[pick]
            first += part.shape[1]
    return batch | {key: torch.from_numpy(array) for key, array in arrays.items()}
