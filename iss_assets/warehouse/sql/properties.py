"""What ``schema.yml`` says about SQL models, in dbt's own format: descriptions, columns, tests, materialization.

The format is dbt's "model properties" (docs.getdbt.com/reference/model-properties). Keys that dbt knows and that are not
needed here are accepted and ignored; a key that dbt does not know is an error with file and line. ``docs/sql_models.md``
explains the format.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from iss_assets.warehouse.sql.data_tests import DataTestConfig, ModelTest, Severity, read_data_test
from iss_assets.warehouse.sql.errors import SqlModelError
from iss_assets.warehouse.sql.yaml_lines import Place, Strict, YamlFile, check_name, read_yaml, validated

Materialized = Literal["table", "view"]


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


# ------------------------------------------------------------------ the format


class _Column(Strict):
    name: str
    description: str = ""
    data_tests: list[Any] = Field(default_factory=list)
    tests: list[Any] = Field(default_factory=list)
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


class _ModelConfig(Strict):
    model_config = ConfigDict(extra="ignore")
    materialized: str | None = None


class _Model(Strict):
    name: str
    description: str = ""
    config: _ModelConfig | None = None
    columns: list[Any] = Field(default_factory=list)
    data_tests: list[Any] = Field(default_factory=list)
    tests: list[Any] = Field(default_factory=list)
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


class _SingularTest(Strict):
    name: str
    description: str = ""
    config: DataTestConfig | None = None
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
        _read_document(YamlFile(file.as_posix(), document, lines), result)
    return result


def _read_document(file: YamlFile, result: FolderProperties) -> None:
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


def _read_model(file: YamlFile, place: Place, entry: Any, result: FolderProperties) -> None:
    model = validated(_Model, entry, file, place)
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
        column = validated(_Column, raw, file, at)
        check_name(column.name, file, (*at, "name"))
        if any(c.name == column.name for c in properties.columns):
            raise file.error(at, f"column {column.name} is described twice")
        properties.columns.append(
            DocumentedColumn(column.name, " ".join(column.description.split()), file.name, file.line(at))
        )
        for key, tests in (("data_tests", column.data_tests), ("tests", column.tests)):
            for number, test in enumerate(tests):
                _add(properties, read_data_test(file, (*at, key, number), test, column.name), file)
    for key, tests in (("data_tests", model.data_tests), ("tests", model.tests)):
        for number, test in enumerate(tests):
            _add(properties, read_data_test(file, (*place, key, number), test, None), file)
    result.models[model.name] = properties


def _read_singular(file: YamlFile, place: Place, entry: Any, result: FolderProperties) -> None:
    test = validated(_SingularTest, entry, file, place)
    if test.name in result.singular:
        raise file.error(place, f"test {test.name} is described twice")
    config = test.config or DataTestConfig()
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


def _add(properties: Properties, test: ModelTest | None, file: YamlFile) -> None:
    if test is None:
        return
    if any(t.name == test.name for t in properties.tests):
        raise SqlModelError(
            file.name, test.line, f"two tests are called {test.name}; give one of them a name"
        )
    properties.tests.append(test)
