"""The head comment of a SQL model: what a row is, what each column means, what must hold.

Belongs here: the syntax of the comment and nothing else; ``docs/sql_models.md`` explains it to those who write it.
Does not belong here: the SELECT below it (``sql_models``), running the tests (``sql_build``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

COLUMN_TESTS: Final = ("unique", "not_null", "accepted_values", "relationships", "range")
_DIRECTIVE: Final = re.compile(r"^(materialized|key|column|test|warn)\b\s*([^:]*):\s*(.*)$")
_NAME: Final = re.compile(r"^[a-z_][a-z0-9_]*$")
_TAGS: Final = re.compile(r"^(?P<text>.*?)\s*\[(?P<tags>[^\[\]]*)\]\s*$", re.DOTALL)
_RANGE: Final = re.compile(r"^(-?\d+(?:\.\d+)?)?\s*\.\.\s*(-?\d+(?:\.\d+)?)?$")


class SqlModelError(ValueError):
    """A SQL model cannot be used; `file` and `line` say where, the message what to do.

    Attributes
    ----------
    file : str
        File relative to the folder of the models.
    line : int
        Line in the file, from 1.
    problem : str
        What is wrong.
    """

    def __init__(self, file: Path | str, line: int, problem: str):
        self.file = str(file)
        self.line = line
        self.problem = problem
        super().__init__(f"{self.file}:{line}: {problem}")


@dataclass(frozen=True)
class ModelTest:
    """A SELECT that must return no rows."""

    name: str
    sql: str
    """``{this}`` stands for the model."""
    description: str
    line: int
    severity: Literal["error", "warn"] = "error"
    fits_any_column: bool = False
    """Whether it can be run on a column of any type, so that nothing about it can be wrong."""
    column: str | None = None
    """The column that it stands beside; None for tests with a line of their own."""


@dataclass(frozen=True)
class DocumentedColumn:
    """One ``column`` line."""

    name: str
    description: str
    line: int


@dataclass
class Head:
    """Everything that the head comment says."""

    description: str = ""
    materialized: Literal["table", "view"] = "view"
    columns: list[DocumentedColumn] = field(default_factory=list)
    tests: list[ModelTest] = field(default_factory=list)


def parse_head(text: str, file: Path | str) -> Head:
    """Read the comment at the head of a model.

    Parameters
    ----------
    text : str
        The whole file.
    file : Path or str
        Its name in errors.

    Returns
    -------
    Head
        Description, directive, columns and tests.

    Raises
    ------
    SqlModelError
        At the first line that is not in the syntax, with that line.
    """
    head = Head()
    for line, entry in _entries(text, file):
        if not head.description:
            head.description = entry
            continue
        match = _DIRECTIVE.match(entry)
        if match is None:
            raise SqlModelError(
                file,
                line,
                f"a line of the head comment is none of 'materialized:', 'key:', 'column NAME:', 'test NAME:', "
                f"'warn NAME:' (indent a line to continue the one before): {entry[:40]!r}",
            )
        word, name, rest = match.group(1), match.group(2).strip(), match.group(3).strip()
        if word == "materialized":
            if rest not in ("table", "view"):
                raise SqlModelError(file, line, f"materialized is 'table' or 'view', not {rest!r}")
            head.materialized = rest  # type: ignore[assignment]
        elif word == "key":
            head.tests.append(_key_test(rest, file, line))
        elif word == "column":
            _add_column(head, _name(name, file, line), rest, file, line)
        else:
            if not rest:
                raise SqlModelError(file, line, f"{word} {name} has no SELECT")
            _add_test(
                head,
                ModelTest(
                    _name(name, file, line),
                    rest,
                    "A SELECT that must return no rows.",
                    line,
                    "warn" if word == "warn" else "error",
                ),
                file,
            )
    if not head.description:
        raise SqlModelError(file, 1, "the file does not begin with a comment that says what a row is")
    return head


def _entries(text: str, file: Path | str) -> list[tuple[int, str]]:
    """Give the head's entries with their first line: the description first, continuations joined."""
    entries: list[tuple[int, str]] = []
    in_description = True
    for number, raw in enumerate(text.splitlines(), start=1):
        stripped = raw.strip()
        if not stripped:
            continue
        if not stripped.startswith("--"):
            break
        body = stripped[2:]
        content = body.strip()
        if not content:
            # an empty comment line ends the description, so that a misspelt directive cannot hide in it
            in_description = not entries
            continue
        continues = in_description and entries and not _DIRECTIVE.match(content)
        if continues or (entries and body.startswith("   ")):
            line, before = entries[-1]
            entries[-1] = (line, f"{before} {content}")
        else:
            in_description = not entries
            entries.append((number, content))
    return entries


def _add_column(head: Head, name: str, rest: str, file: Path | str, line: int) -> None:
    if any(c.name == name for c in head.columns):
        raise SqlModelError(file, line, f"column {name} is documented twice")
    match = _TAGS.match(rest)
    description, tags = (match["text"], match["tags"]) if match else (rest, "")
    if not description:
        raise SqlModelError(file, line, f"column {name} has no description")
    head.columns.append(DocumentedColumn(name, description, line))
    for test, arguments in _split_tags(tags, file, line):
        _add_test(head, replace(_column_test(name, test, arguments, file, line), column=name), file)


def _add_test(head: Head, test: ModelTest, file: Path | str) -> None:
    if any(t.name == test.name for t in head.tests):
        raise SqlModelError(file, test.line, f"two tests are called {test.name}")
    head.tests.append(test)


def _split_tags(tags: str, file: Path | str, line: int) -> list[tuple[str, list[str]]]:
    """Split ``not_null, accepted_values: M, F`` into tests and arguments: a known name begins a new test."""
    tests: list[tuple[str, list[str]]] = []
    for piece in (p.strip() for p in tags.split(",")):
        word, colon, first = piece.partition(":")
        if word.strip() in COLUMN_TESTS:
            tests.append((word.strip(), [first.strip()] if colon else []))
        elif tests:
            tests[-1][1].append(piece)
        elif piece:
            raise SqlModelError(file, line, f"unknown test {piece!r}; known: {', '.join(COLUMN_TESTS)}")
    return tests


def _column_test(column: str, test: str, arguments: list[str], file: Path | str, line: int) -> ModelTest:
    quoted = f'"{column}"'
    if test in ("unique", "not_null"):
        if arguments:
            raise SqlModelError(file, line, f"{test} takes no argument: {', '.join(arguments)!r}")
        if test == "unique":
            sql = f"select {quoted} from {{this}} where {quoted} is not null group by {quoted} having count(*) > 1"
            return ModelTest(
                f"unique_{column}", sql, f"No two rows share a value of {column}.", line, fits_any_column=True
            )
        return ModelTest(
            f"not_null_{column}",
            f"select * from {{this}} where {quoted} is null",
            f"{column} is never empty.",
            line,
            fits_any_column=True,
        )
    if test == "accepted_values":
        if not arguments or not all(arguments):
            raise SqlModelError(file, line, "accepted_values needs values, as in [accepted_values: M, F]")
        listed = ", ".join("'" + value.replace("'", "''") + "'" for value in arguments)
        sql = f"select * from {{this}} where {quoted} is not null and {quoted}::varchar not in ({listed})"
        return ModelTest(
            f"accepted_values_{column}",
            sql,
            f"{column} is one of {', '.join(arguments)}.",
            line,
            fits_any_column=True,
        )
    if test == "relationships":
        table, _, other = (arguments[0] if len(arguments) == 1 else "").partition(".")
        if not (_NAME.match(table) and _NAME.match(other)):
            raise SqlModelError(file, line, "relationships needs [relationships: table.column]")
        sql = (
            f"select * from {{this}} as this where this.{quoted} is not null "
            f'and not exists (select 1 from "{table}" as other where other."{other}" = this.{quoted})'
        )
        return ModelTest(f"relationships_{column}", sql, f"Every {column} is a {other} of {table}.", line)
    bounds = _RANGE.match(arguments[0]) if len(arguments) == 1 else None
    if bounds is None or not any(bounds.groups()):
        raise SqlModelError(file, line, "range needs [range: low..high]; one side may be left out")
    low, high = bounds.groups()
    faults = [f"{quoted} < {low}"] * (low is not None) + [f"{quoted} > {high}"] * (high is not None)
    sql = f"select * from {{this}} where {' or '.join(faults)}"
    return ModelTest(f"range_{column}", sql, f"{column} lies in {low or ''}..{high or ''}.", line)


def _key_test(rest: str, file: Path | str, line: int) -> ModelTest:
    names = [_name(n.strip(), file, line) for n in rest.split(",")]
    listed = ", ".join(f'"{n}"' for n in names)
    sql = f"select {listed} from {{this}} group by {listed} having count(*) > 1"
    return ModelTest("key", sql, f"No two rows share {', '.join(names)}.", line)


def _name(name: str, file: Path | str, line: int) -> str:
    if not _NAME.match(name):
        raise SqlModelError(file, line, f"a name is lower-case letters, digits and _, not {name!r}")
    return name
