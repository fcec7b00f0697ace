"""Patients and submissions that the trained models have not seen."""

from __future__ import annotations

from dataclasses import dataclass

from iss_assets.warehouse.database import Warehouse

_UNSEEN = """
with unusable as (
  select patient_id from video_quality group by patient_id having not bool_or(usable)
),
to_see as (
  select patient_id, submission_id from bpi_scores
  where missing_scores < 9 and patient_id not in (from unusable)
  union
  select patient_id, video_id from video_quality where usable
),
seen_patients as (
  select unnest(train_patients || test_patients) as patient_id from fold_models
)
select 'patient' as kind, patient_id as id from to_see where patient_id not in (from seen_patients)
union
select 'submission', submission_id from to_see
where submission_id not in (select video_id from frame_predictions)
order by all
"""


@dataclass(frozen=True)
class ModelsBehind:
    """What the trained models have not seen.

    Attributes
    ----------
    models : int
        Trained models; with none, everything is unseen.
    patients, submissions : tuple of str
        Ids, sorted: patients on neither side of any model, and submissions that no model was tested on.
    """

    models: int
    patients: tuple[str, ...]
    submissions: tuple[str, ...]

    def __str__(self) -> str:
        """Return it in one line."""
        if not self.models:
            return "No model has been trained yet."
        if not self.patients and not self.submissions:
            return "The models have seen every patient and submission."
        return (
            f"The models have not seen {_count(self.patients, 'patient')} and {_count(self.submissions, 'submission')}; "
            "training starts on request or by schedule only."
        )


def models_behind(warehouse: Warehouse) -> ModelsBehind:
    """Return the patients and submissions that models could learn from and have not seen.

    A submission counts if it has an answer or a usable video, unless its patient has videos and none is usable: such
    patients are in no model by design.
    """
    with warehouse.read() as connection:
        rows = connection.execute(_UNSEEN).fetchall()
        models = connection.execute("select count(*) from fold_models").fetchall()[0][0]
    return ModelsBehind(
        models=models,
        patients=tuple(i for kind, i in rows if kind == "patient"),
        submissions=tuple(i for kind, i in rows if kind == "submission"),
    )


def _count(ids: tuple[str, ...], what: str) -> str:
    return f"{len(ids)} {what}{'' if len(ids) == 1 else 's'}"
