"""What assets work on: the study folder, the settings, the warehouse.

Belongs here: Dagster resources, which only hand out parts of the core.
Does not belong here: anything that reads, computes or writes by itself. See "Resources" in Dagster's concept pages.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import PrivateAttr

from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

if TYPE_CHECKING:
    from iss_assets.intake.folder import StudyFolder


class WarehouseResource(dg.ConfigurableResource):
    """The study and its warehouse.

    Attributes
    ----------
    study, home : str, optional
        Folders that win over the settings' own (``ISS_STUDY``, ``ISS_HOME``); tests use them.
    """

    study: str | None = None
    home: str | None = None

    _settings: Settings | None = PrivateAttr(default=None)
    _folder: StudyFolder | None = PrivateAttr(default=None)

    def settings(self) -> Settings:
        """Give the settings, with this resource's folders put in."""
        if self._settings is None:
            given = {k: Path(v) for k, v in (("study", self.study), ("home", self.home)) if v}
            self._settings = Settings(**given)  # type: ignore[arg-type]
        return self._settings

    def warehouse(self) -> Warehouse:
        """Give the warehouse."""
        settings = self.settings()
        return Warehouse(settings.warehouse_path, settings.warehouse)

    def folder(self) -> StudyFolder:
        """Give the study folder as it is now; read once a run."""
        if self._folder is None:
            from iss_assets.intake.folder import read_study

            settings = self.settings()
            self._folder = read_study(settings.study, settings.reading)
        return self._folder
