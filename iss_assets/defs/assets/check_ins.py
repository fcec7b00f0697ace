"""Answers that change from check-in to check-in: how well they can be predicted, and what may be claimed.

The statistics are in ``iss_assets.evaluation.check_ins``; the page is in ``reports``.
"""

from collections.abc import Iterator

import dagster as dg

from iss_assets.datasets.check_ins import MADE_FROM, check_in_inputs
from iss_assets.defs.assets.common import describe, result
from iss_assets.defs.resources import WarehouseResource
from iss_assets.evaluation.check_ins.study import CODE_VERSION, evaluate_check_ins
from iss_assets.pipeline.staleness import check_ins_fingerprint, readings_are_assessed
from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.check_ins import CHECK_INS
from iss_assets.schemas.prompts import PromptReadings
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Replacement
from iss_assets.warehouse.ledger import STUDY, code_versions, ledger_entry, video_tables

GROUP = "check_ins"


def check_in_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the assets; they depend on the tables of measures that the settings have on."""
    on = {*code_versions(settings), *([PromptReadings.__table__] if readings_are_assessed(settings) else [])}
    switched = {PromptReadings.__table__} | {name for r in Recording for name in video_tables(r)}
    deps = ["cv_splits", *(name for name in MADE_FROM if name in on or name not in switched)]

    @dg.multi_asset(
        name="evaluate_check_ins",
        specs=[
            dg.AssetSpec(
                **describe(
                    table,
                    "Whole patients are left out; every figure has an interval over patients.",
                    group=GROUP,
                    kinds={"python", "duckdb"},
                ),
                deps=deps,
                code_version=CODE_VERSION,
            )
            for table in CHECK_INS
        ],
    )
    def check_ins(warehouse: WarehouseResource) -> Iterator[dg.MaterializeResult]:
        """Predict every check-in from face and voice, for new and for known patients, and compare with simple references."""
        store, settings = warehouse.warehouse(), warehouse.settings()
        fingerprint = check_ins_fingerprint(store, settings)
        rows = evaluate_check_ins(
            check_in_inputs(store, settings.faces, settings.check_ins), settings.check_ins
        )
        store.replace_all(
            [
                r
                for table in CHECK_INS
                for r in (
                    Replacement(table, rows[table.__table__], {}),
                    ledger_entry(STUDY, table, fingerprint, rows[table.__table__].num_rows),
                )
            ]
        )
        for table in CHECK_INS:
            yield result(table, rows[table.__table__].num_rows, fingerprint)

    return [check_ins]
