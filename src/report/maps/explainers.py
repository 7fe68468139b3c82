"""What a network saw of slices, and its Grad-CAM maps of them, for every kind of run that reads pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from ...data.prepared import Prepared
from ...data.square import lay_back
from ...models.heads import probabilities
from ...models.slice_classifier import SliceClassifier
from ...training.sequences.sequence_config import SequenceConfig
from ...training.slices.masks import Masks
from ...training.slices.slice_batches import SliceReader, group_batches, middle, plain_batches
from ...training.slices.slice_config import PixelConfig, SliceConfig
from ...training.videos.frames import FRAMES
from ...training.videos.video_config import VideoConfig
from .gradcam import grad_cam, shuffled_head_correlation

Inputs = list[Any]  # what the network is called with


@dataclass(frozen=True)
class Explained:
    """A slice as it is shown, and its maps."""

    image_id: str
    hu: np.ndarray  # (h, w) int16, the part the network sees, at the stored resolution
    maps: np.ndarray  # (columns, h, w) float32, not normalised
    probabilities: np.ndarray  # (columns,)
    mask: np.ndarray | None  # (h, w) bool


class Explainer:
    """A network on prepared data; what it is asked about, by key, are images here."""

    def __init__(
        self,
        model: SliceClassifier,
        prepared: Prepared,
        config: PixelConfig,
        device: torch.device,
        masks: Masks | None = None,
    ):
        self.model, self.prepared, self.config, self.masks = model.to(device), prepared, config, masks
        self.device, self.columns = device, config.predicted.columns
        # what the network sees of a slice, as sharp as it is stored
        shown = {"image_size": prepared.size, "neighbours": (0,)}
        self.reader = SliceReader(prepared, config.model_copy(update=shown))

    def slices(self, keys: Sequence[str]) -> Iterator[Explained]:
        """In their order, a batch at a time."""
        for _, found in self.groups(keys):
            yield from found

    def groups(self, keys: Sequence[str]) -> Iterator[tuple[str, list[Explained]]]:
        """Every key with the slices whose maps explain one answer, and compare with each other."""
        for ids, inputs in self._batches(keys):
            for explained in self._explained(ids, inputs):
                yield explained.image_id, [explained]

    def images(self, key: str) -> list[str]:
        """That a key stands for."""
        return [key]

    def with_shuffled_head(self, keys: Sequence[str], label: str) -> np.ndarray:
        """See `shuffled_head_correlation`; slices with a flat map are left out."""
        found = [
            shuffled_head_correlation(
                self.model, "head", inputs, label, names=self.columns, seed=self.config.seed
            )
            for _, inputs in self._batches(keys)
        ]
        together = np.concatenate(found)
        return together[~np.isnan(together)]

    def as_stored(self, explained: Explained) -> np.ndarray:
        """(columns, size, size): its maps on the whole stored slice, 0 where the network does not look."""
        size = self.prepared.size
        return lay_back(explained.maps, self.reader.seen(explained.image_id), (size, size))

    def _batches(self, keys: Sequence[str]) -> Iterator[tuple[list[str], Inputs]]:
        """Images, and what the network is called with."""
        for batch in plain_batches(self.prepared, list(keys), self.config, self.config.batch_size):
            yield batch["ids"], self._pixels(batch)

    def _pixels(self, batch: dict[str, Any]) -> Inputs:
        return [batch[name].to(self.device) for name in ("hu", "windows")]

    def _explained(self, ids: list[str], inputs: Inputs) -> Iterator[Explained]:
        maps, logits = grad_cam(self.model, inputs, self.columns, names=self.columns)
        maps = maps.reshape(len(maps), len(ids), *maps.shape[-2:])  # a ViViT's are (columns, 1, frames, h, w)
        shares = probabilities(torch.from_numpy(logits.T.copy()), self.config.predicted).numpy()
        shares = np.broadcast_to(shares, (len(ids), len(maps)))  # a video has one answer
        pictures = self._as_shown(self.reader.hu(ids))
        for place, image_id in enumerate(ids):
            large = np.stack([cv2.resize(cam, pictures[place].shape) for cam in maps[:, place]])
            yield Explained(image_id, pictures[place], large, shares[place], self._mask(image_id))

    def _mask(self, image_id: str) -> np.ndarray | None:
        if self.masks is None or image_id not in self.masks:
            return None
        return self._as_shown(self.reader.mask(image_id, self.masks)[None, None])[0] > 127

    def _as_shown(self, images: np.ndarray) -> np.ndarray:
        """(n, 1, side, side) -> (n, h, w)"""
        return middle(images, *self.reader.target)[:, 0]


class SequenceExplainer(Explainer):
    """Every slice by its own logit, seen among all others of its study."""

    def groups(self, keys: Sequence[str]) -> Iterator[tuple[str, list[Explained]]]:
        """Study by study."""
        wanted = set(keys)
        return (group for group in super().groups(keys) if group[0] in wanted)

    def _batches(self, keys: Sequence[str]) -> Iterator[tuple[list[str], Inputs]]:
        for image_id in keys:
            self.prepared.volumes.slice(image_id)  # raises what is to be done about a missing image
        of_image = self.prepared.slices.set_index("image_id")["study_id"]
        groups = [self.prepared.volumes.study_images(s) for s in of_image[list(keys)].unique()]
        for batch in group_batches(self.prepared, groups, self.config):
            mask = torch.ones(1, len(batch["ids"]), dtype=torch.bool, device=self.device)
            yield batch["ids"], [*self._pixels(batch), mask]


class VideoExplainer(Explainer):
    """The frames of a study, by the study's logit; keys are studies."""

    def groups(self, keys: Sequence[str]) -> Iterator[tuple[str, list[Explained]]]:
        for study, (ids, inputs) in zip(keys, self._batches(keys), strict=True):
            # where a study has fewer slices than frames, some come again
            yield study, list({one.image_id: one for one in self._explained(ids, inputs)}.values())

    def images(self, key: str) -> list[str]:
        return self.prepared.volumes.study_images(key)

    def _batches(self, keys: Sequence[str]) -> Iterator[tuple[list[str], Inputs]]:
        groups = []
        for ids in map(self.images, keys):
            groups.append([ids[k] for k in FRAMES[self.config.frame_choice](len(ids), self.config.frames)])
        for batch in group_batches(self.prepared, groups, self.config):
            yield batch["ids"], [*self._pixels(batch), self.config.frames]


EXPLAINERS = {SliceConfig: Explainer, SequenceConfig: SequenceExplainer, VideoConfig: VideoExplainer}
