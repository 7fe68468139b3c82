"""Strict configurations: a JSON file states only what differs from a frozen, typed model.

Unknown keys, duplicate keys and wrong types are errors that name the file, the key and the nearest known key.
"""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class StrictModel(BaseModel):
    """Base of every configuration: unknown keys, coercion and non-finite numbers are refused."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


Model = TypeVar("Model", bound=StrictModel)


def load_config(model: type[Model], path: Path | str, overrides: Sequence[str] = ()) -> Model:
    """Read a JSON file as `model`, with `key=value` overrides whose values are JSON.

    Raises UserError naming file and key when anything is unknown, missing, doubled or of a wrong type.
    """
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
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds a {type(values).__name__}; a JSON object is expected")
    for override in overrides:
        key, value = parse_override(override)
        values[key] = value
    return parse_config(model, values, str(path))


def parse_config(model: type[Model], values: dict[str, Any], source: str) -> Model:
    """Validate a dictionary of JSON values as `model`; `source` is named in errors."""
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(f"{source}: " + "; ".join(_explain(model, item) for item in error.errors())) from None


def parse_override(text: str) -> tuple[str, Any]:
    """`lr=1e-4` -> ("lr", 1e-4). The value is JSON; other text is an error with a hint on quoting."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UserError(f"--set {text}: expected key=value")
    try:
        return key.strip(), json.loads(value)
    except ValueError:
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


def _explain(model: type[BaseModel], item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "(the whole file)"
    if item["type"] == "extra_forbidden":
        known = list(_holder(model, item["loc"]).model_fields)
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    if item["type"] == "missing":
        return f"the key {key!r} is missing"
    return f"{key}: {item['msg']}, got {json.dumps(item['input'], default=str)}"


def _holder(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that the last key of a location should belong to: `model` or one nested in it."""
    for key in location[:-1]:
        field = model.model_fields.get(str(key))
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        model = next(
            (kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)), model
        )
    return model
