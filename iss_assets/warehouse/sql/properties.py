"""What ``schema.yml`` says about SQL models, in dbt's own format: descriptions, columns, tests, materialization.

The format is dbt's "model properties" (docs.getdbt.com/reference/model-properties). Keys that dbt knows and that are not
needed here are accepted and ignored; a key that dbt does not know is an error with file and line. ``docs/sql_models.md``
explains the format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from iss_assets.warehouse.sql.errors import SqlModelError
from iss_assets.warehouse.sql.yaml_lines import Place, read_yaml

Severity = Literal["error", "warn"]
Materialized = Literal["table", "view"]

_NAME: Final = re.compile(r"^[a-z_][a-z0-9_]*$")
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


@dataclass(frozen=True)
class DocumentedColumn:
    """One entry of ``columns``."""

    name: str
    description: str
    file: str
    line: int


@dataclass
class Properties:
    """Everything that the YAML files of a folder say about one model."""

    description: str = ""
    materialized: Materialized | None = None
    columns: list[DocumentedColumn] = field(default_factory=list)
    tests: list[ModelTest] = field(default_factory=list)
    file: str = ""
    line: int = 1


@dataclass(frozen=True)
class SingularProperties:
    """What a YAML file says about a test that is a SQL file."""

    description: str = ""
    severity: Severity | None = None
    model: str | None = None


@dataclass
class FolderProperties:
    """The YAML files of a folder, read.

    Attributes
    ----------
    models : dict
        Properties by model.
    singular : dict
        Properties by singular test.
    errors : list of SqlModelError
        Errors that belong to no model.
    broken : dict
        Errors in the properties of a model, by model.
    broken_folders : dict
        Errors of files that are not YAML at all, by folder: nothing is known about the models in it.
    """

    models: dict[str, Properties] = field(default_factory=dict)
    singular: dict[str, SingularProperties] = field(default_factory=dict)
    errors: list[SqlModelError] = field(default_factory=list)
    broken: dict[str, SqlModelError] = field(default_factory=dict)
    broken_folders: dict[Path, SqlModelError] = field(default_factory=dict)


_Kind = TypeVar("_Kind", bound=BaseModel)


# ------------------------------------------------------------------ the format


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _DagsterRef(_Strict):
    model_config = ConfigDict(extra="ignore")
    name: str


class _DagsterMeta(_Strict):
    model_config = ConfigDict(extra="ignore")
    ref: _DagsterRef | None = None


class _Meta(_Strict):
    model_config = ConfigDict(extra="ignore")
    dagster: _DagsterMeta | None = None


class _TestConfig(_Strict):
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
    def _known_severity(self) -> _TestConfig:
        if self.severity.lower() not in ("error", "warn"):
            raise ValueError(f"severity is 'error' or 'warn', not {self.severity!r}")
        return self


class _NoArguments(_Strict):
    pass


class _AcceptedValues(_Strict):
    values: Annotated[list[str | int | float | bool], Field(min_length=1)]
    quote: bool = True


class _Relationships(_Strict):
    to: str
    field: str


class _Range(_Strict):
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> _Range:
        if self.min is None and self.max is None:
            raise ValueError("range needs min, max or both")
        return self


class _AcceptedRange(_Strict):
    min_value: float | None = None
    max_value: float | None = None
    inclusive: bool = True


class _Combination(_Strict):
    combination_of_columns: Annotated[list[str], Field(min_length=1)]


_COLUMN_TESTS: Final[dict[str, type[_Strict]]] = {
    "unique": _NoArguments,
    "not_null": _NoArguments,
    "accepted_values": _AcceptedValues,
    "relationships": _Relationships,
    "range": _Range,
    "dbt_utils.accepted_range": _AcceptedRange,
}
"""dbt's four generic tests, our ``range``, and dbt_utils' form of it."""
_MODEL_TESTS: Final[dict[str, type[_Strict]]] = {
    "unique_combination_of_columns": _Combination,
    "dbt_utils.unique_combination_of_columns": _Combination,
}
_TEST_KEYS: Final = frozenset({"name", "description", "config", "arguments"})


class _Column(_Strict):
    name: str
    description: str = ""
    data_tests: list[Any] = []
    tests: list[Any] = []
    # known to dbt, not needed here
    data_type: Any = None
    quote: Any = None
    meta: Any = None
    tags: Any = None
    config: Any = None
    constraints: Any = None
    policy_tags: Any = None
    granularity: Any = None
    dimension: Any = None
    entity: Any = None


class _ModelConfig(_Strict):
    model_config = ConfigDict(extra="ignore")
    materialized: str | None = None


class _Model(_Strict):
    name: str
    description: str = ""
    config: _ModelConfig | None = None
    columns: list[Any] = []
    data_tests: list[Any] = []
    tests: list[Any] = []
    # known to dbt, not needed here
    docs: Any = None
    meta: Any = None
    access: Any = None
    group: Any = None
    constraints: Any = None
    latest_version: Any = None
    versions: Any = None
    deprecation_date: Any = None
    time_spine: Any = None
    tags: Any = None
    primary_entity: Any = None


class _SingularTest(_Strict):
    name: str
    description: str = ""
    config: _TestConfig | None = None
    meta: Any = None
    docs: Any = None
    arguments: Any = None


# ------------------------------------------------------------------ reading


def read_properties(root: Path, files: Iterable[Path]) -> FolderProperties:
    """Read YAML files of a folder; an error in one does not affect the others.

    Parameters
    ----------
    root : Path
        The folder; errors name files relative to it.
    files : iterable of Path
        The files, below `root`.
    """
    result = FolderProperties()
    for path in files:
        file = path.relative_to(root)
        try:
            document, lines = read_yaml(path.read_text(encoding="utf-8"), file.as_posix())
        except (OSError, UnicodeDecodeError):
            error = SqlModelError(file.as_posix(), 1, "the file cannot be read as UTF-8 text")
            result.errors.append(error)
            result.broken_folders[file.parent] = error
            continue
        except SqlModelError as error:
            result.errors.append(error)
            result.broken_folders[file.parent] = error
            continue
        _read_document(_File(file.as_posix(), document, lines), result)
    return result


@dataclass(frozen=True)
class _File:
    name: str
    document: Any
    lines: dict[Place, int]

    def line(self, place: Place) -> int:
        """Return the line of a value, or of the nearest one around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Place, problem: str) -> SqlModelError:
        return SqlModelError(self.name, self.line(place), problem)


def _read_document(file: _File, result: FolderProperties) -> None:
    if file.document is None:
        return
    if not isinstance(file.document, dict):
        result.errors.append(file.error((), "a properties file is a mapping with 'models:' in it"))
        return
    for key in ("models", "data_tests"):
        entries = file.document.get(key) or []
        if not isinstance(entries, list):
            result.errors.append(file.error((key,), f"'{key}' is a list"))
            continue
        for index, entry in enumerate(entries):
            name = entry.get("name") if isinstance(entry, dict) else None
            try:
                if key == "models":
                    _read_model(file, (key, index), entry, result)
                else:
                    _read_singular(file, (key, index), entry, result)
            except SqlModelError as error:
                result.errors.append(error)
                if key == "models" and isinstance(name, str):
                    result.broken.setdefault(name, error)


def _read_model(file: _File, place: Place, entry: Any, result: FolderProperties) -> None:
    model = _validated(_Model, entry, file, place)
    if model.name in result.models:
        first = result.models[model.name]
        raise file.error(place, f"{model.name} is described in {first.file}:{first.line} already")
    materialized = model.config.materialized if model.config else None
    properties = Properties(
        " ".join(model.description.split()),
        checked_materialization(materialized, file.name, file.line((*place, "config", "materialized"))),
        file=file.name,
        line=file.line(place),
    )
    for index, raw in enumerate(model.columns):
        at = (*place, "columns", index)
        column = _validated(_Column, raw, file, at)
        _check_name(column.name, file, (*at, "name"))
        if any(c.name == column.name for c in properties.columns):
            raise file.error(at, f"column {column.name} is described twice")
        properties.columns.append(
            DocumentedColumn(column.name, " ".join(column.description.split()), file.name, file.line(at))
        )
        for key, tests in (("data_tests", column.data_tests), ("tests", column.tests)):
            for number, test in enumerate(tests):
                _add(properties, _generic(file, (*at, key, number), test, column.name), file)
    for key, tests in (("data_tests", model.data_tests), ("tests", model.tests)):
        for number, test in enumerate(tests):
            _add(properties, _generic(file, (*place, key, number), test, None), file)
    result.models[model.name] = properties


def _read_singular(file: _File, place: Place, entry: Any, result: FolderProperties) -> None:
    test = _validated(_SingularTest, entry, file, place)
    if test.name in result.singular:
        raise file.error(place, f"test {test.name} is described twice")
    config = test.config or _TestConfig()
    ref = config.meta.dagster.ref if config.meta and config.meta.dagster else None
    result.singular[test.name] = SingularProperties(
        " ".join(test.description.split()),
        config.level if test.config and "severity" in test.config.model_fields_set else None,
        ref.name if ref else None,
    )


def checked_materialization(value: str | None, file: Path | str, line: int) -> Materialized | None:
    """Return how a model is materialized.

    Raises
    ------
    SqlModelError
        If it is another of dbt's materializations: models here are small and always built whole.
    """
    if value is None or value in ("table", "view"):
        return value  # type: ignore[return-value]  # narrowed by the line above
    raise SqlModelError(file, line, f"materialized is 'table' or 'view', not {value!r}")


def _add(properties: Properties, test: ModelTest | None, file: _File) -> None:
    if test is None:
        return
    if any(t.name == test.name for t in properties.tests):
        raise SqlModelError(
            file.name, test.line, f"two tests are called {test.name}; give one of them a name"
        )
    properties.tests.append(test)


def _validated(kind: type[_Kind], raw: Any, file: _File, place: Place) -> _Kind:
    """Return the entry as its pydantic model; its first fault becomes an error with its line."""
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


def _check_name(name: str, file: _File, place: Place) -> None:
    if not _NAME.match(name):
        raise file.error(place, f"a name is lower-case letters, digits and _, not {name!r}")


# ------------------------------------------------------------------ generic tests


def _generic(file: _File, place: Place, raw: Any, column: str | None) -> ModelTest | None:
    """Turn one entry of ``data_tests`` into a test; None if it is disabled."""
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
    config = _validated(_TestConfig, body.get("config") or {}, file, (*place, "config"))
    if not config.enabled:
        return None
    # since dbt 1.10 arguments are under 'arguments', before that next to 'config'
    arguments = {k: v for k, v in body.items() if k not in _TEST_KEYS}
    inner = place
    if "arguments" in body:
        if arguments:
            raise file.error(place, f"{kind}: put {', '.join(arguments)} under 'arguments'")
        arguments, inner = body["arguments"] or {}, (*place, "arguments")
    checked = _validated(kinds[kind], arguments, file, inner)
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


def _select(file: _File, place: Place, kind: str, arguments: Any, column: str | None) -> _Select:
    if isinstance(arguments, _Combination):
        for name in arguments.combination_of_columns:
            _check_name(name, file, place)
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


def _relationships(file: _File, place: Place, column: str, arguments: _Relationships) -> _Select:
    match = _REFERENCE.match(arguments.to)
    if match is None:
        raise file.error((*place, "to"), "'to' is ref('model') or the plain name of a table")
    table = match["ref"] or match["source"] or match["plain"]
    _check_name(arguments.field, file, (*place, "field"))
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
