"""The Dagster resource that gives assets the settings, the study folder, and the warehouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import PrivateAttr

from iss_assets.pipeline.prepared_read import handed_over, study_folder
from iss_assets.pipeline.run_history import (
    PARTITION_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    require_unfinished,
    tag_process,
)
from iss_assets.privacy.at_work import at_work
from iss_assets.privacy.one_study import require_one_study
from iss_assets.privacy.register import commit_guard, note_home, read_register
from iss_assets.protocol import terms
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

if TYPE_CHECKING:
    from iss_assets.intake.folder import StudyFolder


_PARTITION_TAGS = (PARTITION_TAG, RANGE_START_TAG, RANGE_END_TAG)


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
    _before_commit: Callable[[], None] | None = PrivateAttr(default=None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[WarehouseResource]:
        """Keep withdrawals out while the resource is used, and patients who withdrew out of every run.

        Raises
        ------
        dagster.Failure
            If the run is about a patient who withdrew.
        AnotherStudy
            If the shared warehouse is of another study.
        """
        settings = self.settings()
        with at_work(settings.home):
            require_one_study(settings)
            note_home(settings)
            tags = context.run.tags if context.run is not None else {}
            register = read_register(settings)
            if any(register.patient(tags.get(name, "")) for name in _PARTITION_TAGS):
                raise dg.Failure("The patient withdrew; nothing is run for them.", allow_retries=False)
            self.setup_for_execution(context)
            yield self

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Record which process executes the run, so that the run does not count as alive once that process is gone.

        In a cluster, also take the read of the study folder that the run was handed, and let nothing be written once the run
        was reported as over. On a shared warehouse, let nothing be written once a patient of the run has withdrawn elsewhere.
        """
        if context.run is not None and context.instance is not None:
            tag_process(context.instance, context.run)
            patient = context.run.tags.get(PARTITION_TAG)
            nobody_withdrew = commit_guard(self.settings(), patient)
            unfinished = partial(require_unfinished, context.instance, context.run.run_id)
            in_cluster = self.settings().cluster.storage is not None

            def before_commit() -> None:
                nobody_withdrew()
                if in_cluster:
                    unfinished()

            self._before_commit = before_commit
            if patient and terms.PATIENT_ID.match(patient):
                self._folder = handed_over(context.run.tags, patient, self.settings())

    def settings(self) -> Settings:
        """Return the settings, with this resource's folders."""
        if self._settings is None:
            given = {k: Path(v) for k, v in (("study", self.study), ("home", self.home)) if v}
            self._settings = Settings(**given)  # type: ignore[arg-type]
        return self._settings

    def warehouse(self) -> Warehouse:
        """Return the warehouse."""
        settings = self.settings()
        return Warehouse(settings.warehouse_path, settings.warehouse, self._before_commit)

    def folder(self) -> StudyFolder:
        """Return the study folder, read once per run, or once for all runs of `iss run`."""
        if self._folder is None:
            self._folder = study_folder(self.settings())
        return self._folder
