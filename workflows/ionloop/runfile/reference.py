"""The page that describes every key of the run file, generated from its models.

Update it with ``python -m ionloop.runfile.reference docs/run_file.md``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from inspect import getdoc
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import model_in
from ionloop.runfile.sections.base import CodeSection
from ionloop.runfile.sections.registry import CODES

HEAD = """# The run file

One YAML file decides a run. `ionloop init` writes a commented example, `ionloop check` says what
a run file will do, and every key that is left out has the default given here. Unknown keys are
refused. Paths are relative to the run file.

This page is generated from the models: `python -m ionloop.runfile.reference docs/run_file.md`.
"""

BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}

WORDS = {
    "integer": "whole number",
    "string": "text",
    "boolean": "true or false",
    "object": "keys and values",
}


def page() -> str:
    """Return the whole page as Markdown."""
    titles: dict[type[BaseModel], list[str]] = {RunFile: ["Top level"]}
    for title, model in _walk(RunFile, ""):
        titles.setdefault(model, []).append(title)
    sections = (_section(", ".join(dict.fromkeys(names)), model) for model, names in titles.items())
    return "\n".join([HEAD, *(line for section in sections for line in section)])


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield title and model of every section below a model."""
    for name, field in model.model_fields.items():
        for title, inner in _sections_of(f"{prefix}{name}", field.annotation):
            yield title, inner
            yield from _walk(inner, f"{title.partition(':')[0]}.")


def _sections_of(name: str, annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    if name in CODES:
        yield from ((f"{name}: {{code: {code}}}", model) for code, model in CODES[name].items())
        return
    with suppress(LookupError):
        if issubclass(model_in(annotation), CodeSection):
            return  # such as that of the run
        many = "[]" if get_origin(annotation) is list else ""
        yield f"{name}{many}", model_in(annotation)


def _section(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"{(getdoc(model) or '').splitlines()[0]}\n"
    yield "| key | type | unit | default | meaning |\n|---|---|---|---|---|"
    properties = model.model_json_schema()["properties"]
    for name in _ordered(model):
        schema, field = properties[name], model.model_fields[name]
        meaning = " ".join(schema.get("description", "").split())
        cells = [f"`{name}`", _type(schema), _unit(schema), _default(field), meaning]
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
    yield ""


def _ordered(model: type[BaseModel]) -> list[str]:
    """Return the keys of a section, those of the Maker before those of the code's settings."""
    names = list(model.model_fields)
    if not issubclass(model, CodeSection):
        return names
    return sorted(
        names, key=lambda name: (name != "code", name in model.settings_type.model_fields)
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = _plain(field.get_default(call_default_factory=True, validated_data={}))
    if value is None or value in ([], ()):
        return "none"
    if value == {}:
        return "its own" if isinstance(field.default, BaseModel) else "none"
    text = str(value) if isinstance(value, str | Path) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


def _plain(value: Any) -> Any:
    """Return plain values, of a section only what is not its own default."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _type(schema: Mapping[str, Any]) -> str:
    if options := schema.get("anyOf"):
        kinds = (_type(option) for option in options if option.get("type") != "null")
        return " or ".join(dict.fromkeys(kinds))
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return " or ".join(f"`{value}`" for value in values)
    if items := schema.get("prefixItems"):
        return f"{len(items)} × {_type(items[0])}"
    if schema.get("type") == "array":
        return f"list: {_type(schema['items'])}"
    kind = "section" if "$ref" in schema else schema.get("type", "")
    bounds = [f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema]
    return f"{WORDS.get(kind, kind)} {', '.join(bounds)}".rstrip()


def _unit(schema: Mapping[str, Any]) -> str:
    if "unit" in schema:
        return str(schema["unit"])
    parts = [schema.get("items"), *schema.get("anyOf", ()), *schema.get("prefixItems", ())]
    return next((unit for part in parts if part and (unit := _unit(part))), "")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
