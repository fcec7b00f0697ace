"""Partition definitions: assets are partitioned by patient, fold models by experiment and split.

Which partitions need a run is decided in ``pipeline.staleness``.
"""

from __future__ import annotations

import dagster as dg

from iss_assets.modeling.experiments import EXPERIMENTS
from iss_assets.pipeline.partition_keys import MAX_SPLITS

patients_partitions = dg.DynamicPartitionsDefinition(name="patients")
"""One partition per enrolled patient; keys like ``0007``. `iss run` and the study sensor add them."""

fold_partitions = dg.MultiPartitionsDefinition(
    {
        "experiment": dg.StaticPartitionsDefinition([e.name for e in EXPERIMENTS]),
        "split": dg.StaticPartitionsDefinition([f"{split:02d}" for split in range(1, MAX_SPLITS + 1)]),
    }
)
"""One partition per experiment and split, keys like ``fusion_1|03``. Three patients share a split's model."""
