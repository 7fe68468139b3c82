"""Batches of studies for stage 2: augmented, of similar length, padded; functions of (seed, epoch, index)."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..engine import distributed
from ..engine.precision import Batch
from ..missing import interpolate
from ..slices.slice_batches import prefetch
from .stacker_config import StackerConfig
from .study_draws import draw_hidden, draw_slices
from .study_inputs import StudyInputs


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
                whole = [picks[study] for study in batches[index]]
                draw = np.random.default_rng((self.config.seed, epoch, index))
                hidden = [draw_hidden(len(pick), self.config.slice_dropout, draw) for pick in whole]
                lengths = np.array([len(pick) for pick in whole])
                own, weight = share(lengths, distributed.rank(), distributed.world_size())
                studies = batches[index][own]
                batch = collate(
                    self.inputs, studies, [whole[i] for i in own], [hidden[i] for i in own], copies[studies]
                )
                yield batch | {"weight": weight}

        return prefetch(build)


def share(lengths: np.ndarray, rank: int, processes: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The studies of a batch, by number, that fall to one of several processes; none goes without one.

    With them the weights of its means over slices and over studies: the mean of the weighted means over the
    processes is that of the whole batch. lengths: slices of every study.
    """
    own = np.arange(len(lengths))[rank % len(lengths) :: processes]
    if rank >= len(lengths):  # more processes than studies: this one repeats another's, which does not count
        return own, (0.0, 0.0)
    of_slices, of_studies = lengths[own].sum() / lengths.sum(), len(own) / len(lengths)
    return own, (processes * float(of_slices), processes * of_studies)


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
    `embeddings` are as stored (float16), `folds` (b, members) says whose they are, `weight` is for `share`.
    """
    copies = np.zeros(len(studies), int) if copies is None else copies
    values = [inputs.study(study, copy) for study, copy in zip(studies, copies, strict=True)]
    lengths = [len(v["position"]) for v in values] if picks is None else [len(pick) for pick in picks]
    shape = len(values), max(lengths)
    batch: Batch = {"ids": [str(inputs.image_ids[inputs.bounds[study]]) for study in studies]}
    batch |= {"folds": torch.from_numpy(inputs.folds(studies)), "weight": (1.0, 1.0)}
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
