"""YAML files with the line of every value, checked with pydantic, so that errors can name file and line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from iss_assets.warehouse.sql.errors import SqlModelError

Place: TypeAlias = tuple[str | int, ...]
"""The path to a value: keys and positions, from the top."""

_MAX_DEPTH: Final = 40
_NAME: Final = re.compile(r"^[a-z_][a-z0-9_]*$")
_BOOLEANS: Final = frozenset({"true", "false"})

_Kind = TypeVar("_Kind", bound=BaseModel)


class Strict(BaseModel):
    """Base of the entries of a file: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class YamlFile:
    """One file: its name, its content as Python values, and the line of each value."""

    name: str
    document: Any
    lines: dict[Place, int]

    def line(self, place: Place) -> int:
        """Return the line of a value, or of the nearest one around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Place, problem: str) -> SqlModelError:
        """Return an error at the line of a value."""
        return SqlModelError(self.name, self.line(place), problem)


def read_yaml(text: str, file: Path | str) -> tuple[Any, dict[Place, int]]:
    """Read a YAML document.

    Only ``true`` and ``false`` are Booleans, as in YAML 1.2: ``yes`` and ``no`` are text.

    Parameters
    ----------
    text : str
        The document.
    file : Path or str
        Its name in error messages.

    Returns
    -------
    (object, dict)
        The document as Python values, and the line of each value, from 1.

    Raises
    ------
    SqlModelError
        If it is not YAML, or a mapping has a key twice.
    """
    lines: dict[Place, int] = {}
    try:
        # the same in C, several times as fast, where PyYAML was built with it
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            node = loader.get_single_node()
            return (None if node is None else _value(loader, node, (), lines, file)), lines
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise SqlModelError(file, mark.line + 1 if mark else 1, f"not valid YAML: {problem}") from error


def _value(loader: Any, node: Any, place: Place, lines: dict[Place, int], file: Path | str) -> Any:
    line = node.start_mark.line + 1
    lines[place] = line
    if len(place) > _MAX_DEPTH:
        raise SqlModelError(file, line, "the YAML is nested too deeply")
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*place, i), lines, file) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in found:
                raise SqlModelError(file, key_node.start_mark.line + 1, f"{key!r} is given twice")
            found[key] = _value(loader, value_node, (*place, key), lines, file)
            # if the value is on the next line, people look at the key
            lines[*place, key] = key_node.start_mark.line + 1
        return found
    if node.tag.endswith(":bool") and node.value.lower() not in _BOOLEANS:
        return node.value
    if node.tag.endswith((":timestamp", ":binary")):
        return node.value
    return loader.construct_object(node)


def validated(kind: type[_Kind], raw: Any, file: YamlFile, place: Place) -> _Kind:
    """Return an entry as its pydantic model.

    Raises
    ------
    SqlModelError
        With the first fault of the entry and its line.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        within = tuple(p for p in first["loc"] if isinstance(p, str | int))
        if first["type"] == "extra_forbidden":
            known = sorted(kind.model_fields)
            guess = get_close_matches(str(within[-1]), known, n=1)
            hint = f"did you mean {guess[0]!r}?" if guess else f"known: {', '.join(known)}"
            problem = f"unknown key {within[-1]!r}; {hint}"
        elif first["type"] == "missing":
            problem = f"{'.'.join(map(str, within))!r} is missing"
        else:
            shown = ".".join(str(p) for p in within if isinstance(p, str))
            message = first["msg"].removeprefix("Value error, ")
            problem = f"{shown}: {message}" if shown else message
        raise file.error((*place, *within), problem) from error


def check_name(name: str, file: YamlFile, place: Place) -> None:
    """Check that a name needs no quotes in SQL.

    Raises
    ------
    SqlModelError
        If it does.
    """
    if not _NAME.match(name):
        raise file.error(place, f"a name is lower-case letters, digits and _, not {name!r}")
