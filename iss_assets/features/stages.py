"""What a feature is: the tables it makes, the tables it reads, and the function that measures one video.

A feature reads stored rows (faces, meshes, sound), never the video's file. The shell turns each entry of
``registry.FEATURES`` into a partitioned asset whose unit of work is the video.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as arrow

from iss_assets.features.extras import Extra
from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.base import Table
from iss_assets.settings import Settings


class SourceRows(Protocol):
    """The stored rows of one video."""

    def of(
        self, table: type[Table], columns: Sequence[str], frames: Sequence[int] | None = None
    ) -> arrow.Table:
        """Return columns of the video's rows of a table, in the order of the table's key.

        Parameters
        ----------
        table : type of Table
            One of the feature's sources.
        columns : sequence of str
            Names of columns.
        frames : sequence of int, optional
            Only the rows with these frame indices; all by default.
        """


Measure = Callable[[Mapping[str, Any], SourceRows, Settings], Mapping[str, arrow.Table]]
"""Measures one video: takes its row of ``videos``, its stored rows and the settings; returns rows by table, without
the columns video_id, patient_id and fingerprint. A table that is not returned gets no rows."""


def no_models(settings: Settings) -> tuple[str, ...]:
    """Return no hashes: the feature uses no model files."""
    return ()


@dataclass(frozen=True)
class FeatureStage:
    """One feature.

    Attributes
    ----------
    name : str
        Name of its section of the settings, which has a field `enabled`; also that of its stage in the journal and in
        ``video_problems``.
    tables : tuple of types of Table
        The tables it makes.
    sources : tuple of types of Table
        The tables it reads. It runs after them, and again when they change.
    code_version : str
        Raised when the same rows and settings yield different rows than before.
    measure : str
        The function (`Measure`) as ``module:name``; loaded when needed, because models are heavy.
    description : str
        Second paragraph of its assets' descriptions.
    kinds : frozenset of str
        Badges in the asset graph.
    models : callable
        Returns hashes of the model files in use, part of the fingerprint; a module-level function.
    recordings : tuple of Recording
        The videos of a submission that it is measured in. Its tables of Question 10 readings are listed in
        ``schemas.registry.OF_A_RECORDING``.
    extra : Extra, optional
        Packages that it needs and that are installed on request only. Without them it is off.
    """

    name: str
    tables: tuple[type[Table], ...]
    sources: tuple[type[Table], ...]
    code_version: str
    measure: str
    description: str
    kinds: frozenset[str] = frozenset({"python", "duckdb"})
    models: Callable[[Settings], tuple[str, ...]] = no_models
    recordings: tuple[Recording, ...] = (Recording.NARRATIVE, Recording.PROMPT)
    extra: Extra | None = None

    @property
    def table_names(self) -> tuple[str, ...]:
        """Names of the tables it makes."""
        return tuple(table.__table__ for table in self.tables)

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the tables it reads."""
        return tuple(table.__table__ for table in self.sources)

    def enabled(self, settings: Settings) -> bool:
        """Return whether the settings have it on and the packages that it needs are installed."""
        return self.wanted(settings) and not self.missing_packages()

    def wanted(self, settings: Settings) -> bool:
        """Return whether the settings have it on."""
        return bool(getattr(settings, self.name).enabled)

    def missing_packages(self) -> tuple[str, ...]:
        """Return the packages that it needs and that are not installed."""
        return self.extra.missing() if self.extra else ()

    def version(self, settings: Settings) -> tuple[str, ...]:
        """Return the parts of its version: name, code, settings, and models."""
        return (self.name, self.code_version, getattr(settings, self.name).digest(), *self.models(settings))

    def load_measure(self) -> Measure:
        """Import the function that measures a video."""
        module, _, name = self.measure.partition(":")
        function: Measure = getattr(importlib.import_module(module), name)
        return function
