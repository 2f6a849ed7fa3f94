"""Where does a JSON document leave its schema? The few keywords of JSON Schema that our own schemas use.

The package ships its schemas and checks what it reads by them, without asking every user to install a validator.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

#: What :func:`faults` understands; a keyword beside these would be passed over.
KEYWORDS = frozenset(
    {
        "$ref", "type", "const", "enum", "minimum", "items", "minItems", "maxItems",
        "required", "properties", "additionalProperties", "propertyNames",
    }
)  # fmt: skip

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_NAMES = {"object": "an object", "array": "a list", "string": "a text", "boolean": "true or false"}
_NAMES |= {"integer": "a whole number", "number": "a number", "null": "null"}
#: No value is quoted longer than this.
_LONGEST = 60


def load(name: str) -> dict[str, Any]:
    """Read one of the schemas that ship with the package."""
    text = resources.files("perfgate").joinpath("schema", name).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def faults(document: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """Give what is wrong with a document, with the place of each fault, e.g. ``cases[3].verdict: ...``."""
    yield from _faults(document, schema, schema, "")


def _faults(value: Any, rule: Mapping[str, Any], root: Mapping[str, Any], at: str) -> Iterator[str]:
    if "$ref" in rule:
        target: Any = root
        for step in rule["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        yield from _faults(value, target, root, at)
        return
    place = f"{at}: " if at else ""
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{place}{shown(value)} is not {' or '.join(_NAMES[kind] for kind in kinds)}"
        return
    if "const" in rule and value != rule["const"]:
        yield f"{place}{shown(value)} is not {shown(rule['const'])}"
    if "enum" in rule and value not in rule["enum"]:
        yield f"{place}{shown(value)} is not one of {', '.join(rule['enum'])}"
    if isinstance(value, int | float) and value < rule.get("minimum", value):
        yield f"{place}{shown(value)} is less than {rule['minimum']}"
    if isinstance(value, list):
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            yield f"{place}a list of {len(value)} has the wrong length"
        for index, part in enumerate(value):
            yield from _faults(part, rule.get("items", {}), root, f"{at}[{index}]")
    if isinstance(value, dict):
        yield from _object(value, rule, root, at)


def _object(value: Mapping[str, Any], rule: Mapping[str, Any], root: Mapping[str, Any], at: str) -> Iterator[str]:
    place = f"{at}: " if at else ""
    for name in rule.get("required", []):
        if name not in value:
            yield f"{place}{name} is missing"
    known = rule.get("properties", {})
    others = rule.get("additionalProperties", {})
    for name, part in value.items():
        inside = f"{at}.{name}" if at else name
        if "propertyNames" in rule:
            yield from _faults(name, rule["propertyNames"], root, at)
        if name in known:
            yield from _faults(part, known[name], root, inside)
        elif others is False:
            yield f"{place}{shown(name)} is not a known field"
        else:
            yield from _faults(part, others, root, inside)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def shown(value: Any) -> str:
    """Quote a value of a document as it stands there, cut short."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
