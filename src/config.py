"""Strict configurations: a JSON file states only what differs from a frozen, typed model.

Unknown keys, duplicate keys and wrong types are errors that name the file, the key and the nearest known key.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .config_keys import expected, known_keys, nearest
from .errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
OF_RUN = "run:"  # begins the name of a run whose weights are meant, see training/pixel_fold.py


class StrictModel(BaseModel):
    """Base of every configuration: unknown keys, coercion and non-finite numbers are refused.

    The text below a field is its meaning, which `--keys` and docs/configuration.md show.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )
    absent: ClassVar[dict[str, str]] = {}  # keys that are not there on purpose, and why


Model = TypeVar("Model", bound=StrictModel)


class OneOf:
    """`Annotated[str, OneOf(TABLE)]` is the name of an entry of a table, which alone lists the names."""

    def __init__(self, names: Iterable[str]):
        self.names = tuple(names)

    def check(self, name: str) -> str:
        if name in self.names:
            return name
        near = nearest(name, self.names)
        hint = f"did you mean {near!r}? " if near else ""
        raise PydanticCustomError(
            "unknown_name", f"unknown name {name!r}; {hint}known: {', '.join(self.names)}"
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | {"enum": list(self.names)}


def load_config(model: type[Model], path: Path | str, overrides: Sequence[str] = ()) -> Model:
    """Read a JSON file as `model`, with `key=value` overrides whose values are JSON.

    Raises UserError naming file and key when anything is unknown, missing, doubled or of a wrong type.
    """
    return parse_config(model, read_values(path, overrides), str(path))


def read_values(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON object in a file, with overrides, not validated yet."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {_siblings(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name a JSON file in it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None
    try:
        values = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds a {type(values).__name__}; a JSON object is expected")
    return values | dict(map(parse_override, overrides))


def parse_config(model: type[Model], values: dict[str, Any], source: str) -> Model:
    """Validate a dictionary of JSON values as `model`; `source` is named in errors."""
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(f"{source}: {'; '.join(_sentences(model, values, error))}") from None


def parse_override(text: str) -> tuple[str, Any]:
    """`lr=1e-4` -> ("lr", 1e-4). The value is JSON; other text is an error with a hint on quoting."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UserError(f"--set {text}: expected key=value")
    try:
        return key.strip(), json.loads(value)
    except (ValueError, RecursionError):
        raise UserError(
            f"--set {text}: the value is not JSON; write text as --set '{key}=\"{value}\"'"
        ) from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} appears twice")
        seen[key] = value
    return seen


def _siblings(path: Path) -> str:
    names = sorted(str(p) for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
    return f"present there: {', '.join(names)}" if names else "give the path of a JSON configuration"


Location = tuple[int | str, ...]


def _sentences(model: type[StrictModel], values: dict[str, Any], error: ValidationError) -> list[str]:
    """One for each key: where a value fits no type of a union, pydantic has an error for every type."""
    sentences: dict[Location, str] = {}
    for item in _of_nearest_models(values, error.errors()):
        key, value = _locate(values, item["loc"])
        if item["type"] == "missing" and isinstance(value, dict):
            absent = (*key, item["loc"][-1])
            sentences[absent] = f"the key {_dotted(absent)!r} is missing"
        elif key not in sentences or item["type"] == "unknown_name":  # this one says the most
            sentences[key] = _sentence(model, values, key, item)
    return list(sentences.values())


def _of_nearest_models(values: dict[str, Any], items: Sequence[Any]) -> list[Any]:
    """Where an object fits no type of a union, its errors as the model that has the fewest."""
    unions: dict[Location, dict[int | str, list[Any]]] = {}
    for item in items:
        place = _before_union(values, item["loc"])
        kind = item["loc"][len(place)] if len(place) < len(item["loc"]) else ""
        unions.setdefault(place, {}).setdefault(kind, []).append(item)
    chosen: list[Any] = []
    for place, kinds in unions.items():
        found = list(kinds.values())
        if place and isinstance(_locate(values, place)[1], dict):
            models = [errors for errors in found if all(_is_within(item, place) for item in errors)]
            found = [min(models, key=len)] if models else found
        chosen += [item for errors in found for item in errors]
    return chosen


def _before_union(values: Any, location: Location) -> Location:
    """The part of a location before the first name of a type."""
    for depth, step in enumerate(location):
        if step not in _steps(values):
            return location[:depth]
        values = values[step]
    return location


def _is_within(item: Any, place: Location) -> bool:
    """Whether an error is one of an object's keys, or what a validator of ours says of it."""
    return len(item["loc"]) > len(place) + 1 or item["type"] == "value_error"


def _locate(values: Any, location: Location) -> tuple[Location, Any]:
    """The part of a location that leads through the JSON, without names of models, and what stands there."""
    key: list[int | str] = []
    for step in location:
        if step in _steps(values):
            key.append(step)
            values = values[step]
        elif not isinstance(values, dict):
            break
    return tuple(key), values


def _steps(values: Any) -> Collection[int | str]:
    """That lead further from a JSON value."""
    return values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))


def _sentence(model: type[StrictModel], values: dict[str, Any], key: Location, item: Any) -> str:
    name, kind, value = _dotted(key), item["type"], _locate(values, key)[1]
    if name in model.absent:
        return f"{name}: {model.absent[name]}"
    if kind == "extra_forbidden":
        known = known_keys(model, key[:-1], _locate(values, key[:-1])[1])
        outer, dot, inner = str(key[-1]).partition(".")
        if dot and outer in known:
            whole = f"{outer}={json.dumps({inner: value})}"
            return f"unknown key {name!r}; {outer!r} is given as a whole: --set '{whole}'"
        near = nearest(str(key[-1]), known)
        hint = f"did you mean {near!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {name!r}; {hint}"
    if kind == "unknown_name":
        return f"{name}: {item['msg']}"
    if kind == "value_error":  # what a validator of ours says
        text = str(item["ctx"]["error"])
        return f"{name}: {text}" if name else text
    return f"{name} is {_shortened(value)}; expected: {expected(model, key)}"


def _shortened(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
