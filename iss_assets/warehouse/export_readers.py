"""Scripts next to an export that read its csv files with their types, in pandas and in R.

A csv file does not say what its columns are, so readers guess: an id 0007 becomes the number 7, and a column of nothing but
F becomes FALSE in R. The scripts are made from the data dictionary of the export.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

NAMES: Final = ("read_export.py", "read_export.R")

_PANDAS: Final = '''\
"""Reads the csv files of this folder with their types: tables = read_export("this folder")."""

from pathlib import Path

import pandas as pd

COLUMNS = {columns}

TYPES = {{"string": "string", "integer": "Int64", "number": "float64", "boolean": "boolean"}}


def read_export(folder="."):
    """Return a data frame for each table, by name."""
    tables = {{}}
    for name, columns in COLUMNS.items():
        tables[name] = pd.read_csv(
            Path(folder) / (name + ".csv"),
            dtype={{c: TYPES[kind] for c, kind in columns.items() if kind in TYPES}},
            parse_dates=[c for c, kind in columns.items() if kind in ("date", "datetime")],
            keep_default_na=False,
            na_values=[""],
            encoding="utf-8-sig",
        ).replace({{{none!r}: "None"}})
    return tables
'''

_R: Final = """\
# Reads the csv files of this folder with their types: source("read_export.R"); tables <- read_export("this folder")

columns <- list(
{columns}
)

read_export <- function(folder = ".") {{
  classes <- c(string = "character", integer = "numeric", number = "numeric", boolean = "logical", date = "Date",
               datetime = "character")
  read <- function(name) {{
    kinds <- columns[[name]]
    rows <- read.csv(file.path(folder, paste0(name, ".csv")), colClasses = setNames(classes[kinds], names(kinds)),
                     na.strings = "", check.names = FALSE, fileEncoding = "UTF-8-BOM")
    for (column in names(kinds)[kinds == "datetime"]) {{
      rows[[column]] <- as.POSIXct(rows[[column]], format = "%Y-%m-%dT%H:%M:%OS", tz = "UTC")
    }}
    for (column in names(kinds)[kinds == "string"]) {{
      rows[[column]][!is.na(rows[[column]]) & rows[[column]] == "{none}"] <- "None"
    }}
    rows
  }}
  sapply(names(columns), read, simplify = FALSE)
}}
"""


def reader_scripts(resources: Sequence[Mapping[str, Any]], none: str) -> dict[str, str]:
    """Return the two scripts by file name.

    Parameters
    ----------
    resources : sequence of mapping
        Tables of the data dictionary that are csv files: ``title`` and ``schema``.
    none : str
        How the pain level None is written; it is read as None again.
    """
    columns = {r["title"]: {f["name"]: f["type"] for f in r["schema"]["fields"]} for r in resources}
    in_r = ",\n".join(
        f"  {json.dumps(table)} = c("
        + ", ".join(f"{json.dumps(name)} = {json.dumps(kind)}" for name, kind in fields.items())
        + ")"
        for table, fields in columns.items()
    )
    return {
        "read_export.py": _PANDAS.format(columns=json.dumps(columns, indent=4), none=none),
        "read_export.R": _R.format(columns=in_r, none=none),
    }
