"""YAML with the line of every value, so that errors can name file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from iss_assets.warehouse.sql.errors import SqlModelError

Place: TypeAlias = tuple[str | int, ...]
"""The path to a value: keys and positions, from the top."""

_MAX_DEPTH: Final = 40
_BOOLEANS: Final = frozenset({"true", "false"})


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
        loader = yaml.SafeLoader(text)
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
