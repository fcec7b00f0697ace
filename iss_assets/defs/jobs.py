"""Asset jobs: named selections of assets that are launched together.

``pipeline.launcher`` launches them for the command line, ``sensors`` and ``schedules`` for the daemon.
"""

from dataclasses import asdict

import dagster as dg

from iss_assets.defs.assets.common import PROMPT_GROUP, TEXTS_TAG, WORDS_TAG
from iss_assets.defs.assets.features import FEATURE_GROUP
from iss_assets.defs.resources import WarehouseResource
from iss_assets.pipeline.cluster import GPU_QUEUE, QUEUE_TAG
from iss_assets.pipeline.following import FOLLOW_JOB
from iss_assets.pipeline.planning import WORDS_JOB
from iss_assets.pipeline.run_history import tag_process
from iss_assets.pipeline.staleness import PATIENT_TABLES
from iss_assets.privacy.withdrawal import finish_pending, follow_other_hosts
from iss_assets.settings import Settings
from iss_assets.warehouse.maintenance import maintain

_ON_GPU = {QUEUE_TAG: GPU_QUEUE}
"""Which workers of a cluster take the runs; without a cluster it means nothing."""
_TEXTS = dg.AssetSelection.tag("about", TEXTS_TAG["about"])
_WORDS = dg.AssetSelection.tag("made_by", WORDS_TAG["made_by"])

study_job = dg.define_asset_job(
    "study_folder",
    selection=dg.AssetSelection.assets("rejected_rows", "study_problems") | _TEXTS,
    description="Read the study folder and record what is wrong with it.",
)

patient_job = dg.define_asset_job(
    "patient",
    selection=dg.AssetSelection.assets(*PATIENT_TABLES)
    | (dg.AssetSelection.groups(FEATURE_GROUP) - _WORDS)
    | (dg.AssetSelection.groups(PROMPT_GROUP) - _TEXTS - _WORDS),
    description="Bring one patient up to date: enrollment, answers, videos, pictures, sound, quality, features.",
)

words_job = dg.define_asset_job(
    WORDS_JOB,
    selection=_WORDS,
    # other runs that wait go first
    tags={"dagster/priority": "-1"},
    description="Recognize what one patient says, from the stored sound: words, figures about them, which text was read.",
)
"""Only where words are recognized: without them it has no asset."""

marts_job = dg.define_asset_job(
    "marts",
    selection=dg.AssetSelection.groups("staging", "marts")
    | dg.AssetSelection.assets("study_expectations", "study_page", "quality_page"),
    description="Rebuild everything derived from the patients' tables: SQL marts, the study's expectations, their pages.",
)

splits_job = dg.define_asset_job(
    "splits",
    selection=dg.AssetSelection.assets("cv_splits"),
    description="Assign patients to the splits in which they are tested.",
)

embeddings_job = dg.define_asset_job(
    "embed",
    selection=dg.AssetSelection.assets("embeddings"),
    tags=_ON_GPU,
    description="Embed one patient's faces with a frozen network.",
)

train_job = dg.define_asset_job(
    "train",
    selection=dg.AssetSelection.assets("fold_models", "frame_predictions", "video_attention"),
    tags=_ON_GPU,
    description="Fit the experiments' models, one per split, and predict the patients left out.",
)

accuracy_job = dg.define_asset_job(
    "accuracy",
    selection=dg.AssetSelection.assets("patient_accuracy"),
    description="Compute patients' accuracies from the predictions.",
)

evaluation_job = dg.define_asset_job(
    "evaluate",
    selection=dg.AssetSelection.groups("evaluation") - dg.AssetSelection.assets("patient_accuracy"),
    description="Evaluate the experiments: Table 5, intervals, baselines, chance, subgroups, canaries.",
)

check_ins_job = dg.define_asset_job(
    "check_ins",
    selection=dg.AssetSelection.groups("check_ins"),
    description="Predict the answers of check-ins from face and voice, and compare with simple references.",
)

report_job = dg.define_asset_job(
    "report",
    selection=dg.AssetSelection.assets("study_report", "clinic_report"),
    description="Write the study report and the clinic's report.",
)

patient_report_job = dg.define_asset_job(
    "patient_reports",
    selection=dg.AssetSelection.assets("patient_report"),
    description="Write the pages of patients.",
)


@dg.op(tags={"kind": "duckdb"})
def tidy_up(context: dg.OpExecutionContext, warehouse: WarehouseResource) -> None:
    """Merge small files of the shared warehouse, and remove those that nobody needs any more."""
    done = maintain(warehouse.warehouse())
    context.add_output_metadata(asdict(done))


@dg.job(
    name="maintenance",
    description="Tidy up the shared warehouse: merge small files, remove those that nobody needs any more.",
)
def maintenance_job() -> None:
    """Tidy up the shared warehouse."""
    tidy_up()


@dg.op
def follow(context: dg.OpExecutionContext) -> None:
    """Remove from the home what names patients who withdrew on another host; without the warehouse's resource, which keeps that out."""
    tag_process(context.instance, context.run)
    settings = Settings()
    finish_pending(settings, context.log.info)
    certificates = follow_other_hosts(settings, context.log.info)
    context.add_output_metadata(
        {"patients": len(certificates), "complete": sum(one.complete for one in certificates)}
    )


@dg.job(
    name=FOLLOW_JOB,
    description="Remove from this home what names patients who withdrew on another host of the shared warehouse.",
)
def follow_withdrawals_job() -> None:
    """Follow the withdrawals of other hosts."""
    follow()


ALL = (
    study_job,
    patient_job,
    marts_job,
    splits_job,
    embeddings_job,
    train_job,
    accuracy_job,
    evaluation_job,
    check_ins_job,
    report_job,
    patient_report_job,
)
