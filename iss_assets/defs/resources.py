"""The Dagster resource that gives assets the settings, the study folder, and the warehouse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import PrivateAttr

from iss_assets.pipeline.prepared_read import study_folder
from iss_assets.pipeline.run_history import tag_process
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

if TYPE_CHECKING:
    from iss_assets.intake.folder import StudyFolder


class WarehouseResource(dg.ConfigurableResource):
    """The study and its warehouse.

    Attributes
    ----------
    study, home : str, optional
        Folders that override those in the settings (``ISS_STUDY``, ``ISS_HOME``); tests use them.
    """

    study: str | None = None
    home: str | None = None

    _settings: Settings | None = PrivateAttr(default=None)
    _folder: StudyFolder | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Record which process executes the run, so that the run does not count as alive once that process is gone."""
        if context.run is not None and context.instance is not None:
            tag_process(context.instance, context.run)

    def settings(self) -> Settings:
        """Return the settings, with this resource's folders."""
        if self._settings is None:
            given = {k: Path(v) for k, v in (("study", self.study), ("home", self.home)) if v}
            self._settings = Settings(**given)  # type: ignore[arg-type]
        return self._settings

    def warehouse(self) -> Warehouse:
        """Return the warehouse."""
        settings = self.settings()
        return Warehouse(settings.warehouse_path, settings.warehouse)

    def folder(self) -> StudyFolder:
        """Return the study folder, read once per run, or once for all runs of `iss run`."""
        if self._folder is None:
            self._folder = study_folder(self.settings())
        return self._folder
