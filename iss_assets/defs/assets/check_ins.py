"""Answers that change from check-in to check-in: how well they can be predicted, and what may be claimed.

The statistics are in ``iss_assets.evaluation.check_ins``; the page is in ``reports``.
"""

from collections.abc import Iterator

import dagster as dg

from iss_assets.datasets.check_ins import check_in_inputs
from iss_assets.defs.assets.common import describe, result
from iss_assets.defs.resources import WarehouseResource
from iss_assets.evaluation.check_ins.study import CODE_VERSION, evaluate_check_ins
from iss_assets.pipeline.staleness import check_ins_fingerprint
from iss_assets.schemas.check_ins import CHECK_INS
from iss_assets.warehouse.database import Replacement
from iss_assets.warehouse.ledger import STUDY, ledger_entry

GROUP = "check_ins"


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
            deps=["bpi_scores", "cv_splits", "video_quality", "landmarks", "audio_features"],
            code_version=CODE_VERSION,
        )
        for table in CHECK_INS
    ],
)
def check_ins(warehouse: WarehouseResource) -> Iterator[dg.MaterializeResult]:
    """Predict every check-in from face and voice, for new and for known patients, and compare with simple references."""
    store, settings = warehouse.warehouse(), warehouse.settings()
    fingerprint = check_ins_fingerprint(store, settings)
    rows = evaluate_check_ins(check_in_inputs(store), settings.check_ins)
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
