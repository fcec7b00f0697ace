"""How artifacts are partitioned: by patient, and fold models by experiment and split.

Belongs here: partition definitions. Does not belong here: deciding which partitions need a run (``ledger``).
See "Partitions" in Dagster's concept pages.
"""

from __future__ import annotations

import dagster as dg

from iss_assets.modeling.experiments import EXPERIMENTS
from iss_assets.settings import Settings

MAX_SPLITS = max(10, Settings().training.folds)
"""Splits that the UI offers: the paper's ten, or more where `ISS_TRAINING__FOLDS` asks for them (one a patient, say).
With fewer the rest stay empty."""

patients_partitions = dg.DynamicPartitionsDefinition(name="patients")
"""One partition an enrolled patient; keys like ``0007``. `iss run` and the study sensor add them."""

fold_partitions = dg.MultiPartitionsDefinition(
    {
        "experiment": dg.StaticPartitionsDefinition([e.name for e in EXPERIMENTS]),
        "split": dg.StaticPartitionsDefinition([f"{split:02d}" for split in range(1, MAX_SPLITS + 1)]),
    }
)
"""One partition an experiment and split, keys like ``fusion_1|03``. Three patients share a split's model."""


def fold_key(experiment: str, split: int) -> str:
    """Give the partition key of one experiment and split."""
    return f"{experiment}|{split:02d}"
