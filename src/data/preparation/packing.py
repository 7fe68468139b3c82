"""From the files of studies to packs: which slices are stored already, and writing the others.

A stored slice stays in its pack for as long as nothing that it was made from changes. What is new goes to
new packs: whole studies, a few a pack, or the slices that known studies have gained; slices.parquet says
which pack holds a slice. Under `crop` a study is one piece, for its square is chosen from all its slices:
when the study changes it is made anew, its neighbours stay. A slice that nothing refers to any more is dead
space until none of its pack is in use; then the pack is deleted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ...errors import UserError
from ...files import fingerprint
from ..crop import head_square, remove_holder
from ..formats.images import decode_mask, decode_source
from ..hu import Slice
from ..pack import SUFFIX, Entry, Pack, write_pack
from ..source import Source, changed_since, stamp
from ..square import AIR, Square, extract, whole
from .options import Options
from .pixel_hash import pixel_hash

# A fixed number keeps the division into packs the same when a stopped run goes on. At 512 px a pack has about
# 60 MB.
STUDIES_PER_PACK = 8
LONE = 1 / 16  # what an image alone counts against a study: of pictures without studies there are many


class ImageFile(NamedTuple):
    """An image to be stored, or with `square` a mask, to be cut just as its image of `shape` was."""

    image_id: str
    source: Source
    move: tuple[float, float] = (0.0, 0.0)  # down and along, in pixels
    square: Square | None = None
    shape: tuple[int, ...] = ()  # rows, columns

    @property
    def made_from(self) -> str:
        """What the stored pixels depend on beside the options and the file's content."""
        return " ".join(map(str, (*stamp(self.source), *self.move, *(self.square or ()), *self.shape)))


@dataclass(frozen=True)
class StudyFiles:
    """The images of a study, or some of them, in slice order; `made_from` has one entry for each.

    With `one_piece` none of them is stored but together with all the others.
    """

    study_id: str
    images: list[ImageFile]
    made_from: list[str]
    one_piece: bool

    @classmethod
    def of(cls, study_id: str, images: list[ImageFile], one_piece: bool) -> "StudyFiles":
        made_from = [image.made_from for image in images]
        if one_piece:
            study = fingerprint([[image.image_id for image in images], made_from])
            made_from = [f"{made} of {study}" for made in made_from]
        return cls(study_id, images, made_from, one_piece)

    def only(self, places: Sequence[int]) -> "StudyFiles":
        images, made_from = ([values[n] for n in places] for values in (self.images, self.made_from))
        return replace(self, images=images, made_from=made_from)


@dataclass(frozen=True)
class Plan:
    """`kept`: the rows in use of every pack that is there; `todo`: the packs to be written."""

    kept: dict[Path, np.ndarray]
    todo: list[tuple[Path, list[StudyFiles]]]

    @property
    def packs(self) -> list[Path]:
        return sorted([*self.kept, *(path for path, _ in self.todo)])


def plan_packs(studies: Sequence[StudyFiles], folder: Path, options: Options) -> Plan:
    """Keep every image that is stored and current; divide the others, in the order of studies, into new
    packs.

    An image is current when it was made with the same options from a file of the same size, moved and cut
    alike, that is not younger than the pack: the rule of `make`. Packs are named by their content, so a
    stopped run that is started again finds its own, and ends with the same files as one that was never
    stopped.
    """
    stored = _stored(studies, folder, options)
    rest = []
    for study in studies:
        missing = [n for n, image in enumerate(study.images) if image.image_id not in stored]
        if missing and study.one_piece:
            missing = list(range(len(study.images)))
            for image in study.images:
                stored.pop(image.image_id, None)
        if missing:
            rest.append(study.only(missing))
    rows: dict[Path, list[int]] = {}
    for path, row in stored.values():
        rows.setdefault(path, []).append(row)
    todo = [(folder / (_name(group, options) + SUFFIX), group) for group in _groups(rest)]
    return Plan({path: np.sort(held) for path, held in rows.items()}, todo)


def _groups(studies: Sequence[StudyFiles]) -> list[list[StudyFiles]]:
    """The studies of every new pack; without those of any of them the others stay as they are."""
    groups: list[list[StudyFiles]] = []
    held = float(STUDIES_PER_PACK)
    for study in studies:
        if held >= STUDIES_PER_PACK:
            groups.append([])
            held = 0.0
        groups[-1].append(study)
        held += LONE if len(study.images) == 1 else 1.0
    return groups


def _stored(studies: Sequence[StudyFiles], folder: Path, options: Options) -> dict[str, tuple[Path, int]]:
    """image_id -> pack and row, of the images that are stored and current."""
    packs = sorted(folder.glob(f"*{SUFFIX}"))
    if not packs:
        return {}
    wanted = {
        image.image_id: (study.study_id, made_from, image.source)
        for study in studies
        for image, made_from in zip(study.images, study.made_from, strict=True)
    }
    stored: dict[str, tuple[Path, int]] = {}
    for path in packs:
        made = path.stat().st_mtime_ns
        for row, (image_id, study_id, made_from) in enumerate(_contents(path, options)):
            study, now, source = wanted.get(image_id, (None, None, None))
            if (study_id, made_from) == (study, now) and not changed_since(source, made):
                stored.setdefault(image_id, (path, row))
    return stored


def _contents(path: Path, options: Options) -> Iterable[tuple[str, str, str]]:
    """image_id, study_id and what it was made from, of every row; nothing from a pack of no use."""
    try:
        pack = Pack(path)
    except UserError:
        return []
    if pack.metadata["options"] != options.volumes or "made_from" not in pack.metadata:
        return []
    ids = (pack.index.column(name).to_pylist() for name in ("image_id", "study_id"))
    return zip(*ids, pack.metadata["made_from"], strict=True)


def write_planned(path: Path, studies: Sequence[StudyFiles], options: Options) -> None:
    """One task: read, decode, cut and store the studies of one pack."""
    cv2.setNumThreads(0)
    entries = (entry for study in studies for entry in study_entries(study, options))
    made_from = [made for study in studies for made in study.made_from]
    metadata = {"options": options.volumes, "made_from": made_from}
    write_pack(path, entries, options.size, metadata)


def study_entries(study: StudyFiles, options: Options) -> Iterator[Entry]:
    """Every image of a study as it goes into a pack. With `crop` the study is decoded before anything is
    given.
    """
    if study.images[0].square is not None:
        yield from _mask_entries(study, options)
        return
    decoded: Any = (decode_source(image.source) for image in study.images)
    squares: dict[tuple[int, ...], Square] = {}
    if options.crop:
        decoded = list(decoded)
        squares = _head_squares(decoded, [image.move for image in study.images])
    for file, image in zip(study.images, decoded, strict=True):
        if isinstance(image, str):
            yield Entry(file.image_id, study.study_id, None, {"cause": image})
            continue
        square = squares[image.values.shape] if options.crop else whole(*image.values.shape)
        if options.correct_tilt:
            square = square.moved(*file.move)
        values = extract(image.values, square, options.size, AIR if image.is_hu else 0, image.range)
        if options.remove_holder and image.is_hu:
            values = remove_holder(values)
        yield Entry(file.image_id, study.study_id, values, _found(image, square))


def _mask_entries(study: StudyFiles, options: Options) -> Iterator[Entry]:
    """1 where at least half of a stored pixel lies in the mask: resampling rounds."""
    for file in study.images:
        mask = decode_mask(file.source)
        if not isinstance(mask, str) and mask.shape != file.shape:
            mask = "it is {} x {}, its image {} x {}".format(*mask.shape, *file.shape)
        if isinstance(mask, str):
            yield Entry(file.image_id, study.study_id, None, {"cause": f"mask: {mask}"})
        else:
            values = extract(mask, file.square, options.size, fill=0)
            yield Entry(file.image_id, study.study_id, values, {})


def _found(image: Slice, square: Square) -> dict[str, Any]:
    found: dict[str, Any] = {"pixel_hash": pixel_hash(image.values), "wrap_fixed": image.wrap_fixed}
    low, high = image.range
    found["blank"] = low == high
    if image.is_hu:
        found |= {"hu_min": low, "hu_max": high, "hu_mean": image.mean}
    return found | {"square_top": square.top, "square_left": square.left, "square_side": square.side}


def _head_squares(
    images: list[Slice | str], moves: list[tuple[float, float]]
) -> dict[tuple[int, ...], Square]:
    """One square for every matrix size in the study."""
    decoded = [(image, move) for image, move in zip(images, moves, strict=True) if isinstance(image, Slice)]
    squares = {}
    for shape in {image.values.shape for image, _ in decoded}:
        group = [(image.values, move) for image, move in decoded if image.values.shape == shape]
        squares[shape] = head_square(*zip(*group, strict=True))
    return squares


def _name(studies: Sequence[StudyFiles], options: Options) -> str:
    contents = [
        [study.study_id, [image.image_id for image in study.images], study.made_from] for study in studies
    ]
    return fingerprint([options.volumes, contents])
