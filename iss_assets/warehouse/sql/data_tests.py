"""The data tests of dbt's ``schema.yml`` as SELECTs: dbt's generic tests, our ``range``, and two of dbt_utils.

A test is a SELECT of the rows that break it (docs.getdbt.com/reference/resource-properties/data-tests).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from iss_assets.warehouse.sql.yaml_lines import Place, Strict, YamlFile, check_name, validated

Severity = Literal["error", "warn"]

_REFERENCE: Final = re.compile(
    r"""^\s*(?:ref\(\s*['"](?P<ref>\w+)['"]\s*\)|source\(\s*['"]\w+['"]\s*,\s*['"](?P<source>\w+)['"]\s*\)|(?P<plain>\w+))\s*$"""
)


@dataclass(frozen=True)
class ModelTest:
    """A SELECT that must return no rows.

    Attributes
    ----------
    name : str
        Unique within the model.
    sql : str
        ``{this}`` stands for the model.
    description : str
        What must hold.
    file, line : str, int
        Where the test is written.
    severity : str
        ``error`` or ``warn``.
    fits_any_column : bool
        Whether it runs on a column of any type and so needs no check by DuckDB.
    column : str or None
        The tested column; None for tests of the whole model.
    kind : str
        ``unique`` or ``not_null`` if the test requires exactly that of every row; else empty.
    """

    name: str
    sql: str
    description: str
    file: str
    line: int
    severity: Severity = "error"
    fits_any_column: bool = False
    column: str | None = None
    kind: str = ""


class _DagsterRef(Strict):
    model_config = ConfigDict(extra="ignore")
    name: str


class _DagsterMeta(Strict):
    model_config = ConfigDict(extra="ignore")
    ref: _DagsterRef | None = None


class _Meta(Strict):
    model_config = ConfigDict(extra="ignore")
    dagster: _DagsterMeta | None = None


class DataTestConfig(Strict):
    """The ``config`` of a test."""

    model_config = ConfigDict(extra="ignore")
    severity: str = "error"
    where: str | None = None
    enabled: bool = True
    meta: _Meta | None = None

    @property
    def level(self) -> Severity:
        """Return the severity; dbt writes it in any case."""
        return "warn" if self.severity.lower() == "warn" else "error"

    @model_validator(mode="after")
    def _known_severity(self) -> DataTestConfig:
        if self.severity.lower() not in ("error", "warn"):
            raise ValueError(f"severity is 'error' or 'warn', not {self.severity!r}")
        return self


class _NoArguments(Strict):
    pass


class _AcceptedValues(Strict):
    values: Annotated[list[str | int | float | bool], Field(min_length=1)]
    quote: bool = True


class _Relationships(Strict):
    to: str
    field: str


class _Range(Strict):
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> _Range:
        if self.min is None and self.max is None:
            raise ValueError("range needs min, max or both")
        return self


class _AcceptedRange(Strict):
    min_value: float | None = None
    max_value: float | None = None
    inclusive: bool = True


class _Combination(Strict):
    combination_of_columns: Annotated[list[str], Field(min_length=1)]


_COLUMN_TESTS: Final[dict[str, type[Strict]]] = {
    "unique": _NoArguments,
    "not_null": _NoArguments,
    "accepted_values": _AcceptedValues,
    "relationships": _Relationships,
    "range": _Range,
    "dbt_utils.accepted_range": _AcceptedRange,
}
"""dbt's four generic tests, our ``range``, and dbt_utils' form of it."""
_MODEL_TESTS: Final[dict[str, type[Strict]]] = {
    "unique_combination_of_columns": _Combination,
    "dbt_utils.unique_combination_of_columns": _Combination,
}
_TEST_KEYS: Final = frozenset({"name", "description", "config", "arguments"})


def read_data_test(file: YamlFile, place: Place, raw: Any, column: str | None) -> ModelTest | None:
    """Return the test that one entry of ``data_tests`` describes; None if it is disabled.

    Parameters
    ----------
    file : YamlFile
        The file of the entry.
    place : Place
        The entry's place in it.
    raw : object
        The entry.
    column : str or None
        The tested column; None for a test of the whole model.

    Raises
    ------
    SqlModelError
        If the test or one of its arguments is unknown, missing, or wrong.
    """
    kinds = _COLUMN_TESTS if column is not None else _MODEL_TESTS
    if isinstance(raw, str):
        kind, body = raw, {}
    elif isinstance(raw, dict) and "test_name" in raw:
        kind, body = str(raw["test_name"]), {k: v for k, v in raw.items() if k != "test_name"}
    elif isinstance(raw, dict) and len(raw) == 1:
        kind, body = next(iter(raw.items()))
        place = (*place, kind)
    else:
        raise file.error(place, "a test is a name, or a name with its arguments under it")
    if kind not in kinds:
        guess = get_close_matches(kind, kinds, n=1)
        hint = f"did you mean {guess[0]}?" if guess else f"known: {', '.join(kinds)}"
        raise file.error(place, f"unknown test {kind!r}; {hint}")
    if body is None:
        body = {}
    if not isinstance(body, dict):
        raise file.error(place, f"{kind} takes its arguments by name")
    config = validated(DataTestConfig, body.get("config") or {}, file, (*place, "config"))
    if not config.enabled:
        return None
    # since dbt 1.10 arguments are under 'arguments', before that next to 'config'
    arguments = {k: v for k, v in body.items() if k not in _TEST_KEYS}
    inner = place
    if "arguments" in body:
        if arguments:
            raise file.error(place, f"{kind}: put {', '.join(arguments)} under 'arguments'")
        arguments, inner = body["arguments"] or {}, (*place, "arguments")
    checked = validated(kinds[kind], arguments, file, inner)
    made = _select(file, place, kind, checked, column)
    sql = made.sql
    if config.where:
        # as dbt does: filter the model, not the failing rows
        sql = sql.replace("{this}", f"(select * from {{this}} where {config.where})")
    name = str(body.get("name") or made.name)
    return ModelTest(
        name,
        sql,
        str(body.get("description") or made.description),
        file.name,
        file.line(place),
        config.level,
        made.fits_any_column and not config.where,
        column,
        kind if kind in ("unique", "not_null") and not config.where and config.level == "error" else "",
    )


@dataclass(frozen=True)
class _Select:
    name: str
    sql: str
    description: str
    fits_any_column: bool = False


def _select(file: YamlFile, place: Place, kind: str, arguments: Any, column: str | None) -> _Select:
    if isinstance(arguments, _Combination):
        for name in arguments.combination_of_columns:
            check_name(name, file, place)
        return _unique_combination(arguments.combination_of_columns)
    assert column is not None
    quoted = f'"{column}"'
    if kind == "unique":
        sql = (
            f"select {quoted} from {{this}} where {quoted} is not null group by {quoted} having count(*) > 1"
        )
        return _Select(f"unique_{column}", sql, f"No two rows share a value of {column}.", True)
    if kind == "not_null":
        sql = f"select * from {{this}} where {quoted} is null"
        return _Select(f"not_null_{column}", sql, f"{column} is never empty.", True)
    if isinstance(arguments, _AcceptedValues):
        return _accepted_values(column, arguments)
    if isinstance(arguments, _Relationships):
        return _relationships(file, place, column, arguments)
    return _within(column, arguments)


def _unique_combination(columns: Sequence[str]) -> _Select:
    listed = ", ".join(f'"{name}"' for name in columns)
    sql = f"select {listed} from {{this}} group by {listed} having count(*) > 1"
    return _Select("key", sql, f"No two rows share {', '.join(columns)}.")


def _accepted_values(column: str, arguments: _AcceptedValues) -> _Select:
    values = [str(v).lower() if isinstance(v, bool) else str(v) for v in arguments.values]
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    sql = f'select * from {{this}} where "{column}" is not null and "{column}"::varchar not in ({listed})'
    return _Select(f"accepted_values_{column}", sql, f"{column} is one of {', '.join(values)}.", True)


def _relationships(file: YamlFile, place: Place, column: str, arguments: _Relationships) -> _Select:
    match = _REFERENCE.match(arguments.to)
    if match is None:
        raise file.error((*place, "to"), "'to' is ref('model') or the plain name of a table")
    table = match["ref"] or match["source"] or match["plain"]
    check_name(arguments.field, file, (*place, "field"))
    sql = (
        f'select * from {{this}} as this where this."{column}" is not null '
        f'and not exists (select 1 from "{table}" as other where other."{arguments.field}" = this."{column}")'
    )
    return _Select(f"relationships_{column}", sql, f"Every {column} is a {arguments.field} of {table}.")


def _within(column: str, arguments: _Range | _AcceptedRange) -> _Select:
    if isinstance(arguments, _Range):
        low, high, below, above = arguments.min, arguments.max, "<", ">"
    else:
        low, high = arguments.min_value, arguments.max_value
        below, above = ("<", ">") if arguments.inclusive else ("<=", ">=")
    faults = [f'"{column}" {below} {low!r}'] * (low is not None) + [f'"{column}" {above} {high!r}'] * (
        high is not None
    )
    shown = f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
    sql = f"select * from {{this}} where {' or '.join(faults) or 'false'}"
    return _Select(f"range_{column}", sql, f"{column} is in {shown}.")
