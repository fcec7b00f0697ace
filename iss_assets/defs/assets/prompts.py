"""The assets of Question 10 that narratives do not have: the study's texts, and which of them was read."""

import dagster as dg

from iss_assets.defs.assets.common import PROMPT_GROUP, TEXTS_TAG, describe, result
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.folder import prompt_rows
from iss_assets.protocol.recordings import Recording, enabled_recordings
from iss_assets.schemas.prompts import Prompts
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Replacement
from iss_assets.warehouse.ledger import STUDY, fingerprint, ledger_entry

TEXTS_CODE_VERSION = "1"
"""Raised when the same row of prompts.csv yields a different row."""


@dg.asset(
    **describe(
        Prompts,
        "From `prompts.csv`; what is wrong with it is in `rejected_rows`.",
        group=PROMPT_GROUP,
        kinds={"python", "duckdb"},
        tags=TEXTS_TAG,
    ),
    code_version=TEXTS_CODE_VERSION,
)
def prompts(warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Store the study's texts."""
    rows = prompt_rows(warehouse.folder())
    made_from = fingerprint(rows)
    warehouse.warehouse().replace_all(
        [
            Replacement(Prompts, Prompts.from_rows(rows), {}),
            ledger_entry(STUDY, Prompts, made_from, len(rows)),
        ]
    )
    return result(Prompts, len(rows), made_from)


def prompt_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the assets; none if readings are not processed."""
    return [prompts] if Recording.PROMPT in enabled_recordings(settings) else []
