"""Read a run file and check its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ionloop.runfile.errors import KeyPath, RunFileError, Source, explain
from ionloop.runfile.model import RunFile
from ionloop.runfile.sections.base import Production
from ionloop.runfile.sections.registry import CODES, section_type
from ionloop.runfile.yaml import read_yaml
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
    run_file = validate(read_yaml(path))
    try:
        return run_file.located(path.parent)
    except InputError as error:
        raise RunFileError(f"{path}: {error}") from None


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
            has_code = model is RunFile and key in CODES
            field = model.model_fields[key]
            model = section_type(key, node) if has_code else model_in(field.annotation)
    known = list(model.model_fields)
    if model is Production:
        known += section_type("train", data.get("train")).model_fields
    return [key for key in dict.fromkeys(known) if (model, key) != (Production, "code")]


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
