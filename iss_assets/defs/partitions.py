"""Partition definitions: assets are partitioned by patient, fold models by experiment and split.

Which partitions need a run is decided in ``pipeline.staleness``.
"""

from __future__ import annotations

import dagster as dg

from iss_assets.modeling.experiments import EXPERIMENTS
from iss_assets.pipeline.partition_keys import most_splits
from iss_assets.settings import Settings

patients_partitions = dg.DynamicPartitionsDefinition(name="patients")
"""One partition per enrolled patient; keys like ``0007``. `iss run` and the study sensor add them."""

fold_partitions = dg.MultiPartitionsDefinition(
    {
        "experiment": dg.StaticPartitionsDefinition([e.name for e in EXPERIMENTS]),
        "split": dg.StaticPartitionsDefinition(
            [f"{split:02d}" for split in range(1, most_splits(Settings()) + 1)]
        ),
    }
)
"""One partition per experiment and split, keys like ``fusion_1|03``. Three patients share a split's model."""
