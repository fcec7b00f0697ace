"""An invented study with the paper's cohort, evaluated once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from iss_assets.evaluation.accuracy import patient_accuracy
from iss_assets.evaluation.baselines import quality_measures
from iss_assets.evaluation.permutation import Retraining
from iss_assets.evaluation.study import EvaluationInputs, evaluate_study
from iss_assets.protocol import published
from iss_assets.settings import EvaluationSettings
from iss_assets_tests.evaluation import invented

EXPERIMENTS = {p.experiment: p.classes for p in published.TABLE_5} | {"embedding_probe": 2}


@pytest.fixture(scope="session")
def pool() -> Iterator[Executor]:
    """Two threads for trainings."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture(scope="session")
def quick() -> EvaluationSettings:
    """Few resamples: for tests of behavior, not of figures."""
    return EvaluationSettings(
        bootstrap_samples=999,
        permutations=499,
        retrained_permutations=19,
        shuffle_repeats=4,
        stability_seeds=(1, 2),
    )


@pytest.fixture(scope="session")
def evaluated(study: SimpleNamespace, quick: EvaluationSettings) -> dict[str, pa.Table]:
    """Every evaluation table of the invented study, with one cheap model that can be trained again."""

    def again(levels: Mapping[str, str], splits: Mapping[str, int]) -> pa.Table:
        return invented.predictions({"forest_pain": 2}, study.splits, items=2)

    quality, attention = partly_flagged(study.quality.to_pandas())
    frames = pd.DataFrame({"patient_id": np.repeat(study.patients["patient_id"].to_pylist(), 20)})
    return evaluate_study(
        EvaluationInputs(
            study.accuracy,
            study.splits,
            study.models,
            study.patients,
            study.scores,
            quality,
            videos=study.videos,
            frames=frames.assign(picture_hash=range(len(frames)), contrast=0.2),
            retraining={"forest_pain": Retraining(again)},
            fit_predict={"forest_pain": again},
            by_seed={
                "forest_pain": lambda seed: invented.predictions({"forest_pain": 2}, study.splits, seed=seed)
            },
            features={"quality": quality_measures(study.quality.to_pandas())},
            attention=attention,
        ),
        quick,
    )


def partly_flagged(quality: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give three videos glare in one of four seconds, and let two models look there; one of them has no accuracies."""
    seen = quality.groupby("patient_id").head(1).head(3)
    chosen = quality["video_id"].isin(seen["video_id"]).to_list()
    quality = quality.assign(
        moments=pd.Series(['{"glare": [[0, 1]]}' if c else "{}" for c in chosen], index=quality.index),
        flags=pd.Series(
            [[*own, "glare"] if c else list(own) for own, c in zip(quality["flags"], chosen, strict=True)],
            index=quality.index,
        ),
    )
    attention = [
        {"experiment": experiment, "patient_id": r.patient_id, "video_id": r.video_id, "start_s": float(second),
         "end_s": second + 1.0, "attention": 0.4 if second == 0 else 0.2}
        for experiment in ("resnet50_4_static", "mil_mesh") for r in seen.itertuples() for second in range(4)
    ]  # fmt: skip
    return quality, pd.DataFrame(attention)


@pytest.fixture(scope="session")
def one_evaluated(study: SimpleNamespace, quick: EvaluationSettings) -> SimpleNamespace:
    """The same study where only the forest on pain scores has been trained."""
    of_forest = pc.field("experiment") == "forest_pain"
    accuracy, models = study.accuracy.filter(of_forest), study.models.filter(of_forest)
    tables = evaluate_study(
        EvaluationInputs(accuracy, study.splits, models, study.patients, study.scores, study.quality), quick
    )
    return SimpleNamespace(accuracy=accuracy, models=models, tables=tables)


@pytest.fixture(scope="session")
def study() -> SimpleNamespace:
    people = invented.patients()
    cv = invented.splits(people)
    clips = invented.videos(people)
    models = invented.fold_models(list(EXPERIMENTS), cv)
    items = invented.predictions(EXPERIMENTS, cv)
    return SimpleNamespace(
        patients=people,
        splits=cv,
        videos=clips,
        scores=invented.bpi_scores(people),
        quality=invented.video_quality(people, clips),
        models=models,
        predictions=items,
        accuracy=patient_accuracy(items, cv, models),
    )
