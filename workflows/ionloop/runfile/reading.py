"""Read a run file and check its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from ionloop.runfile.errors import KeyPath, RunFileError, Source, dotted, explain
from ionloop.runfile.model import RunFile
from ionloop.runfile.sections.production import DistillationSection, ProductionSection
from ionloop.runfile.sections.registry import CODES, section_type
from ionloop.schemas.errors import InputError


def load(path: Path | str) -> RunFile:
    """Read a run file; paths in it are relative to it.

    Parameters
    ----------
    path
        A YAML file.

    Raises
    ------
    RunFileError
        If it is not there, is not YAML, or holds unknown keys or wrong values. The message has
        a line for each, with file, line, key, and what is expected.
    """
    path = Path(path)
    run_file = validate(_read_yaml(path))
    try:
        return run_file.located(path.parent)
    except InputError as error:
        raise RunFileError(f"{path}: {error}") from None


def _read_yaml(path: Path) -> Source:
    """Read a YAML file of keys and values.

    Raises
    ------
    RunFileError
        If it is not there, cannot be read, is not YAML, holds no keys, or holds itself.
    """
    try:
        text = path.read_text()
        data = YAML(typ="safe", pure=True).load(text)
        marks = YAML().load(text)
    except FileNotFoundError:
        raise RunFileError(f"{path} does not exist; `ionloop init` writes an example") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} cannot be read: {error}") from None
    except MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RunFileError(f"{path}{place}: this is not YAML: {error.problem}") from None
    if not isinstance(data, dict):
        raise RunFileError(f"{path} holds no keys; `ionloop init` writes an example")
    source = Source(path, data, marks)
    if (loop := _circular(data)) is not None:
        line = f", line {source.line(loop)}" if source.line(loop) else ""
        raise RunFileError(
            f"{path}{line}: {dotted(loop)} holds itself: an anchor (&) with an alias (*) to it "
            "inside; write the values out"
        )
    return source


def _circular(data: Any, keys: KeyPath = (), above: tuple[int, ...] = ()) -> KeyPath | None:
    """Return the key path of the first value that holds itself, which YAML's anchors allow."""
    if not isinstance(data, dict | list):
        return None
    if id(data) in above:
        return keys
    parts = data.items() if isinstance(data, dict) else enumerate(data)
    found = (_circular(value, (*keys, key), (*above, id(data))) for key, value in parts)
    return next((loop for loop in found if loop is not None), None)


def validate(source: Source) -> RunFile:
    """Build the run file from its data.

    Raises
    ------
    RunFileError
        If it holds unknown keys or wrong values.
    """
    try:
        return RunFile.model_validate(source.data)
    except ValidationError as error:
        raise explain(error, source, allowed_keys) from None


def allowed_keys(keys: KeyPath, data: Any) -> list[str]:
    """Return the known keys of a section of the run file.

    Parameters
    ----------
    keys
        Key path of the section, empty for the whole file.
    data
        The content of the run file: its `code` keys decide what a section may hold.
    """
    model: type[BaseModel] = RunFile
    node = data
    for key in keys:
        node = node[key]
        if isinstance(key, str):
            has_code = model in (RunFile, DistillationSection) and key in CODES
            field = model.model_fields[key]
            model = section_type(key, node) if has_code else model_in(field.annotation)
    known = list(model.model_fields)
    if model is ProductionSection:
        trains = node if isinstance(node, dict) and node.get("code") else data.get("train")
        known += section_type("train", trains).model_fields
    return list(dict.fromkeys(known))


def model_in(annotation: Any) -> type[BaseModel]:
    """Return the model that an annotation such as ``list[Stage]`` or ``Stage | None`` holds.

    Raises
    ------
    LookupError
        If there is none.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        try:
            return model_in(part)
        except LookupError:
            continue
    raise LookupError(f"{annotation} holds no model")
