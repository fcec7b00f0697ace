"""The checks of the graph, stage by stage: which rules run in which op, and on which assets."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from iss_assets.checks.stages import STAGES, Stage
from iss_assets.defs.checks.factory import make_checks
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import Settings


def build_checks(
    later: Iterable[dg.AssetsDefinition] = (), settings: Settings | None = None
) -> list[dg.AssetChecksDefinition]:
    """Return the checks of the graph.

    Parameters
    ----------
    later : iterable of AssetsDefinition
        Assets after `STAGES` (folds, models, results): those that are tables get their schema checked, over the whole
        table. The suites over the study report on ``study_expectations`` itself.
    settings : Settings, optional
        Say which features are on; read from the environment by default.
    """
    settings = settings or Settings()
    known = {table for stage in STAGES for table in stage.tables}
    stages = [stage for stage in STAGES if stage.enabled(settings)]
    for assets in later:
        names = sorted({key.to_user_string() for key in assets.keys} & BY_NAME.keys() - known)
        if names:
            stages.append(Stage(f"check_{'_and_'.join(names)}", names, by_patient=False))
            known.update(names)
    return [make_checks(stage) for stage in stages]
