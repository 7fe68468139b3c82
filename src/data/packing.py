"""From the files of studies to packs: which packs are there already, and writing the others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2

from ..errors import UserError
from ..files import fingerprint
from .crop import head_square, remove_holder
from .hu import Slice
from .images import decode_mask, decode_source
from .options import Options
from .pack import SUFFIX, Entry, Pack, write_pack
from .pixel_hash import pixel_hash
from .source import Source, modified_ns, size_of
from .square import AIR, Square, extract, whole

# A fixed number keeps the division into packs the same when a stopped run goes on. At 512 px a pack has about
# 60 MB.
STUDIES_PER_PACK = 8


@dataclass(frozen=True)
class StudyFiles:
    """The images of one study in slice order; `moves` (down, along) in pixels, one per image.

    With `squares` the sources are masks, to be cut just as their images were.
    """

    study_id: str
    image_ids: list[str]
    sources: list[Source]
    moves: list[tuple[float, float]]
    squares: list[Square] | None = None

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(
            [self.image_ids, [size_of(source) for source in self.sources], self.moves, self.squares]
        )


@dataclass(frozen=True)
class Plan:
    """`kept` packs are there and current, `todo` are to be written, `stale` are to be deleted when all is
    done.
    """

    kept: list[Path]
    todo: list[tuple[Path, list[StudyFiles]]]
    stale: list[Path]

    @property
    def packs(self) -> list[Path]:
        return sorted([*self.kept, *(path for path, _ in self.todo)])


def plan_packs(studies: Sequence[StudyFiles], folder: Path, options: Options) -> Plan:
    """Keep every pack whose studies all stand unchanged in the plan; divide the others, in order, into new
    packs.

    A pack is current when it was made with the same options from the same image ids, file sizes and moves,
    and no file is younger than the pack: the rule of `make`. Packs are named by their content, so a stopped
    run that is started again finds its own, and ends with the same files as one that was never stopped.
    """
    wanted = {study.study_id: study for study in studies}
    kept: list[Path] = []
    existing = sorted(folder.glob(f"*{SUFFIX}"))
    for path in existing:
        held = _current_studies(path, wanted, options)
        if held:
            kept.append(path)
            for study_id in held:
                del wanted[study_id]
    rest = list(wanted.values())
    groups = [rest[start : start + STUDIES_PER_PACK] for start in range(0, len(rest), STUDIES_PER_PACK)]
    todo = [(folder / (_name(group, options) + SUFFIX), group) for group in groups]
    used = {*kept, *(path for path, _ in todo)}
    leftovers = [path for path in folder.glob(".*.partial")]
    return Plan(kept, todo, [path for path in existing if path not in used] + leftovers)


def write_planned(path: Path, studies: Sequence[StudyFiles], options: Options) -> None:
    """One task: read, decode, cut and store the studies of one pack."""
    cv2.setNumThreads(0)
    entries = (entry for study in studies for entry in study_entries(study, options))
    metadata = {
        "options": options.volumes,
        "studies": {study.study_id: study.fingerprint for study in studies},
    }
    write_pack(path, entries, options.size, metadata)


def study_entries(study: StudyFiles, options: Options) -> Iterator[Entry]:
    """Every image of a study as it goes into a pack. With `crop` the study is decoded before anything is
    given.
    """
    if study.squares is not None:
        yield from _mask_entries(study, options)
        return
    images: Any = map(decode_source, study.sources)
    squares: dict[tuple[int, ...], Square] = {}
    if options.crop:
        images = list(images)
        squares = _head_squares(images, study.moves)
    for image_id, image, move in zip(study.image_ids, images, study.moves, strict=True):
        if isinstance(image, str):
            yield Entry(image_id, study.study_id, None, {"cause": image})
            continue
        square = squares[image.values.shape] if options.crop else whole(*image.values.shape)
        if options.correct_tilt:
            square = square.moved(*move)
        values = extract(image.values, square, options.size, AIR if image.is_hu else 0)
        if options.remove_holder and image.is_hu:
            values = remove_holder(values)
        yield Entry(image_id, study.study_id, values, _found(image, square))


def _mask_entries(study: StudyFiles, options: Options) -> Iterator[Entry]:
    """1 where at least half of a stored pixel lies in the mask: resampling rounds."""
    for image_id, source, square in zip(study.image_ids, study.sources, study.squares or [], strict=True):
        try:
            values = extract(decode_mask(source), square, options.size, fill=0)
        except (OSError, ValueError) as error:
            raise UserError(f"{source}: unreadable mask ({error}); repair the file or take it away") from None
        yield Entry(image_id, study.study_id, values, {})


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
        squares[shape] = head_square(*zip(*group, strict=True)) if decoded[0][0].is_hu else whole(*shape)
    return squares


def _name(studies: Sequence[StudyFiles], options: Options) -> str:
    return fingerprint([options.volumes, [[study.study_id, study.fingerprint] for study in studies]])


def _current_studies(path: Path, wanted: dict[str, StudyFiles], options: Options) -> list[str]:
    """The studies of a pack if all of them are wanted just so; else none."""
    try:
        metadata = Pack(path).metadata
    except UserError:
        return []
    held = metadata["studies"]
    if metadata["options"] != options.volumes or any(wanted.get(s) is None for s in held):
        return []
    made = path.stat().st_mtime_ns
    for study_id, before in held.items():
        study = wanted[study_id]
        if study.fingerprint != before or any(modified_ns(source) > made for source in study.sources):
            return []
    return list(held)
