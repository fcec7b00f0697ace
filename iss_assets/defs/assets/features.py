"""The assets of the features: one multi-asset per entry of ``features.registry``, partitioned by patient."""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from iss_assets.defs.assets.common import WORDS_TAG, asset_group, describe
from iss_assets.defs.assets.video_work import Extracted, Pass, Video, extract
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.features.registry import enabled_features, feature_named
from iss_assets.features.stages import FeatureStage
from iss_assets.pipeline.staleness import WORD_TABLES
from iss_assets.protocol.recordings import Recording, enabled_recordings
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import code_versions
from iss_assets.warehouse.source_rows import StoredRows
from iss_assets.warehouse.spool import Spool

FEATURE_GROUP = "features"
"""The group of these assets in the asset graph."""


def feature_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the assets of the features that are on; their code versions come from the settings."""
    versions = code_versions(settings)
    return [
        _assets_of(feature, recording, versions[recording.named(feature.table_names[0])])
        for recording in enabled_recordings(settings)
        for feature in enabled_features(settings)
        if recording in feature.recordings
    ]


def _assets_of(feature: FeatureStage, recording: Recording, version: str) -> dg.AssetsDefinition:
    group, kinds = asset_group(FEATURE_GROUP, recording), set(feature.kinds)
    specs = [
        dg.AssetSpec(
            **describe(
                BY_NAME[recording.named(name)],
                feature.description,
                group=group,
                kinds=kinds,
                tags={"stage": group, **(WORDS_TAG if recording.named(name) in WORD_TABLES else {})},
            ),
            deps=[recording.inventory, *(recording.named(source) for source in feature.source_names)],
            code_version=version,
            skippable=True,
        )
        for name in feature.table_names
    ]

    @dg.multi_asset(
        name=f"extract_{recording.named(feature.name)}",
        specs=specs,
        partitions_def=patients_partitions,
        can_subset=True,
    )
    def measured(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult]:
        """Measure one patient's videos."""
        yield from extract(
            context,
            warehouse,
            Pass(
                feature.table_names,
                feature.name,
                partial(measure_stored, feature.name),
                sources=feature.source_names,
                recording=recording,
            ),
        )

    return measured


def measure_stored(
    name: str, video: Video, wanted: set[str], settings: Settings, warehouse: Warehouse, spool: Spool
) -> Extracted:
    """Measure one video from its stored rows.

    Parameters
    ----------
    name : str
        Name of the feature.
    video : Video
        The video.
    wanted : set of str
        The tables to return.
    settings : Settings
        Settings of the study.
    warehouse : Warehouse
        Where the stored rows are.
    spool : Spool
        Not used: the rows of a feature are small.
    """
    rows = StoredRows(warehouse, video.video_id, video.recording)
    made = feature_named(name).load_measure()(video.row, rows, settings)
    return Extracted({table: found for table, found in made.items() if table in wanted})
