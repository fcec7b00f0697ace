"""How models were made, as tables of the study report: settings, profiles, weights; without paths and addresses."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from iss_assets.evaluation.frames import rows_of
from iss_assets.protocol.published import describe
from iss_assets.reports import report_tables

SHOWN_SETTINGS = (
    "video",
    "faces",
    "landmarks",
    "identity",
    "audio",
    "voice",
    "behavior",
    "prompt",
    "thermal",
    "words",
    "quality",
    "training",
    "evaluation",
    "check_ins",
)
"""Sections of the settings that are printed; paths, alert addresses and the like are not."""

_COUNTED = frozenset({("words", "hotwords")})
"""Settings of which only the number of entries is printed: words that a study lists may be names."""


def shown(value: Any) -> str:
    """Return a setting as text, with only the last part of a path, at any depth."""

    def bare(part: Any) -> Any:
        if isinstance(part, str):
            return PurePosixPath(part.replace("\\", "/")).name if "/" in part or "\\" in part else part
        if isinstance(part, Mapping):
            return {str(k): bare(v) for k, v in part.items()}
        return [bare(v) for v in part] if isinstance(part, list | tuple) else part

    cleaned = bare(value)
    return cleaned if isinstance(cleaned, str) else json.dumps(cleaned)


def settings_tables(settings: Mapping[str, Any]) -> list[report_tables.DataTable]:
    """Return the sections that the figures depend on, one table each."""
    return [
        report_tables.simple(
            f"Settings: {section}.",
            ["Setting", "Value"],
            [
                (name, f"{len(value)} words" if (section, name) in _COUNTED else shown(value))
                for name, value in settings[section].items()
            ],
            "Defaults of this version.",
        )
        for section in SHOWN_SETTINGS
        if settings.get(section)
    ]


def models_table(models: pd.DataFrame) -> report_tables.DataTable:
    """Return the trained models, one row per experiment; list what differs between folds."""

    def all_of(group: pd.DataFrame, column: str) -> str:
        return ", ".join(sorted({str(v) for v in group[column]}))

    rows = []
    if len(models):
        for experiment, group in report_tables.in_order(models).groupby("experiment", sort=False):
            rows.append(
                (
                    report_tables.name_cell(str(experiment)),
                    len(group),
                    int(group["train_items"].median()),
                    *(all_of(group, c) for c in ("profile", "weights_origin", "seed", "code_version")),
                    "; ".join(sorted({computed_with(row) for row in rows_of(group)})),
                )
            )
    return report_tables.simple(
        "Trained models.",
        [
            "Model",
            "Folds",
            "Items, median",
            "Profile",
            "First weights",
            "Seed",
            "Code version",
            "Computed with",
        ],
        rows,
        "No model has been trained yet.",
    )


def computed_with(model: Any) -> str:
    """Describe the hardware and precision that a row of ``fold_models`` was actually computed with.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> computed_with(
    ...     SimpleNamespace(
    ...         precision="bfloat16", device="cpu (AVX512)", threads=2, execution="eager", library="torch 2.15.0"
    ...     )
    ... )
    'bfloat16 on cpu (AVX512), 2 threads, eager; torch 2.15.0'
    """
    device = getattr(model, "device", None)
    if device is None or pd.isna(device):
        return "not recorded"
    threads = "" if pd.isna(model.threads) else f", {int(model.threads)} thread{'s' * (model.threads != 1)}"
    return f"{model.precision} on {device}{threads}, {model.execution}; {model.library}"


def training_settings_table(models: pd.DataFrame) -> report_tables.DataTable:
    """Return the settings stored with the trained models: one value where all agree, else each with its models."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for model in rows_of(models):
        for name, value in json.loads(model.settings).items():
            found[name][shown(value)].add(describe(model.experiment)[1])
    experiments = models["experiment"].nunique()
    rows = []
    for name, values in found.items():
        same = len(values) == 1 and len(next(iter(values.values()))) == experiments
        text = "; ".join(v if same else f"{v} ({', '.join(sorted(who))})" for v, who in values.items())
        rows.append((name, text))
    return report_tables.simple(
        "Training settings, as stored with the models.",
        ["Setting", "Value"],
        rows,
        "No model has been trained yet.",
    )
