"""Strict configurations: a JSON file states only what differs from a frozen, typed model.

Unknown keys, duplicate keys and wrong types are errors that name the file, the key and the nearest known key.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .config_keys import expected, known_keys, nearest
from .errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


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
    for item in error.errors():
        key, value = _locate(values, item["loc"])
        if item["type"] == "missing" and item["loc"][:-1] == key and isinstance(value, dict):
            sentences[item["loc"]] = f"the key {_dotted(item['loc'])!r} is missing"
        elif key not in sentences or item["type"] == "unknown_name":  # this one says the most
            sentences[key] = _sentence(model, key, value, item)
    return list(sentences.values())


def _locate(values: Any, location: Location) -> tuple[Location, Any]:
    """The part of a location that leads through the JSON, without names of types, and what stands there."""
    for depth, step in enumerate(location):
        known = values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
        if step not in known:
            return location[:depth], values
        values = values[step]
    return location, values


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))


def _sentence(model: type[StrictModel], key: Location, value: Any, item: Any) -> str:
    name, kind = _dotted(key), item["type"]
    if kind == "extra_forbidden":
        known = known_keys(model, key[:-1])
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
