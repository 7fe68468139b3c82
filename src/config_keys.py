"""What the keys of a configuration are: types in words, defaults and meanings, read from its JSON schema."""

import difflib
import json
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
BOUNDS = {  # of JSON schema
    "minimum": "from {:g}", "exclusiveMinimum": "above {:g}", "maximum": "to {:g}",
    "exclusiveMaximum": "below {:g}",
}  # fmt: skip
NAMES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


@dataclass(frozen=True)
class Key:
    """One key of a configuration."""

    name: str  # of an object within: `augmentation.hflip`
    type: str  # in words
    default: str  # as JSON; empty where the key is required
    meaning: str


def sections(model: type[BaseModel]) -> dict[str, list[Key]]:
    """All keys of a configuration by the class that brings them in: by the first line of its docstring."""
    found: dict[str, list[Key]] = {}
    schema = _schema(model)
    for name in schema["properties"]:
        part = next(kind for kind in reversed(model.__mro__) if name in getattr(kind, "model_fields", ()))
        heading = (part.__doc__ or "").strip().partition("\n")[0]
        found.setdefault(heading, []).extend(_keys(schema, schema, name))
    return found


def listing(model: type[BaseModel]) -> str:
    """All keys of a configuration as plain text, for a terminal."""
    lines = []
    for heading, keys in sections(model).items():
        lines += [heading, ""]
        for key in keys:
            default = f"default {key.default}" if key.default else "required"
            lines.append(f"  {key.name}: {key.type}; {default}")
            lines += textwrap.wrap(key.meaning, 100, initial_indent="      ", subsequent_indent="      ")
        lines.append("")
    return "\n".join(lines)


def expected(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """In words what a configuration takes at a location, such as ("mean", 0)."""
    schema = _schema(model)
    return _words(schema, _at(schema, location))


def known_keys(model: type[BaseModel], location: Sequence[int | str], given: Collection[str]) -> list[str]:
    """The keys of the object at a location; where several may stand, of the one nearest to given keys."""
    schema = _schema(model)
    options = [option for option in _options(schema, _at(schema, location)) if "properties" in option]

    def wrong(option: Schema) -> int:
        return len(set(given) - set(option["properties"])) + len(set(option.get("required", ())) - set(given))

    return list(min(options, key=wrong)["properties"]) if options else []


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that a wrong one was meant for, if one is near."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.4)), None)


@cache
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _keys(root: Schema, holder: Schema, name: str, prefix: str = "") -> Iterator[Key]:
    """A key of an object, and behind it the keys of the objects that stand there."""
    own = holder["properties"][name]
    default = "" if name in holder.get("required", ()) else json.dumps(own["default"])
    objects = list(_objects(root, own, f"{prefix}{name}."))
    if objects and default.startswith("{"):
        default = "{}"  # the keys within have theirs
    yield Key(prefix + name, _words(root, own), default, " ".join(own.get("description", "").split()))
    within = [_keys(root, inner, key, start) for start, inner in objects for key in inner["properties"]]
    yield from dict.fromkeys(key for keys in within for key in keys)  # alternatives may share some


def _objects(root: Schema, schema: Schema, prefix: str) -> Iterator[tuple[str, Schema]]:
    """The objects with known keys that stand at a key, in a list there (`N`) or under names (`NAME`)."""
    for option in _options(root, schema):
        if "properties" in option:
            yield prefix, option
        for place, inner in (("N", option.get("items")), ("NAME", option.get("additionalProperties"))):
            if isinstance(inner, dict):
                yield from _objects(root, inner, f"{prefix}{place}.")


def _options(root: Schema, schema: Schema) -> list[Schema]:
    """The alternatives of a schema, references followed."""
    if "$ref" in schema:
        return [root["$defs"][schema["$ref"].rpartition("/")[2]]]
    if "anyOf" in schema:
        return [option for one in schema["anyOf"] for option in _options(root, one)]
    return [schema]


def _at(root: Schema, location: Sequence[int | str]) -> Schema:
    """What may stand at a location."""
    found = root
    for step in location:
        found = {"anyOf": [inner for one in _options(root, found) for inner in _inside(one, step)]}
    return found


def _inside(schema: Schema, step: int | str) -> list[Schema]:
    if isinstance(step, int):
        fixed = schema.get("prefixItems", [])
        return fixed[step : step + 1] if fixed else [schema["items"]] if "items" in schema else []
    if step in schema.get("properties", {}):
        return [schema["properties"][step]]
    more = schema.get("additionalProperties", False)
    return [more] if isinstance(more, dict) else []


def _words(root: Schema, schema: Schema, plural: str = "") -> str:
    """plural: `s` for the entries of a list."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_words(root, option, plural) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        *names, last = map(json.dumps, schema.get("enum", [schema.get("const")]))
        return f"{', '.join(names)} or {last}" if names else last
    kind = schema.get("type", "object")  # a reference leads to an object
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_words(root, item) for item in schema['prefixItems'])}]"
        return f"list of {_words(root, schema['items'], 's')}"
    bounds = [text.format(schema[key]) for key, text in BOUNDS.items() if key in schema]
    if bounds[-1:] == bounds[:1] and "minimum" in schema:
        bounds.append("up")
    return " ".join([NAMES.get(kind, kind) + plural, *bounds])
