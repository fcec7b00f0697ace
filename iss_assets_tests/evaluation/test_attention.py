"""Attention to flagged stretches beside chance: a planted shortcut fires, and none where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from iss_assets.evaluation.attention import attention_canaries, attention_shortcuts, covered
from iss_assets.modeling.experiments import experiment
from iss_assets.modeling.fitting import attention_of_fold, fit_fold
from iss_assets.modeling.items import Items, make_items
from iss_assets.modeling.series import Series, starts_of
from iss_assets.schemas.evaluation import AttentionShortcuts, CanaryResults
from iss_assets.schemas.modeling import VideoAttention
from iss_assets.settings import EvaluationSettings, TrainingSettings

SETTINGS = EvaluationSettings(bootstrap_samples=999, permutations=999)


def attention_rows(shares: dict[str, list[float]], experiment: str = "mil_mesh") -> pd.DataFrame:
    """One video per patient, with these shares of attention to its seconds."""
    return pd.DataFrame(
        [
            {"experiment": experiment, "patient_id": p, "video_id": f"{p}-1", "start_s": s, "end_s": s + 1.0, "attention": a}
            for p, own in shares.items()
            for s, a in enumerate(own)
        ]
    )  # fmt: skip


def quality_rows(spans: dict[str, dict[str, list[list[float]]]], rejected: str = "") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"video_id": f"{p}-1", "moments": json.dumps(m), "flags": [f for f in m if f != rejected]}
            for p, m in spans.items()
        ]
    )


def test_a_stretch_is_covered_as_far_as_spans_reach_into_it() -> None:
    start = np.arange(5.0)
    found = covered(start, start + 1, [(0.25, 0.5), (0.75, 2.5), (4.0, 9.0)])
    assert found.tolist() == [0.5, 1, 0.5, 0, 1]


def test_attention_and_chance_are_means_over_patients_of_what_lies_on_flagged_seconds() -> None:
    attention = attention_rows({"a": [0.7, 0.1, 0.1, 0.1], "b": [0.2, 0.3, 0.2, 0.2, 0.1]})
    quality = quality_rows({"a": {"glare": [[0, 1]]}, "b": {"glare": [[0.0, 2.4]], "mask": [[0, 1]]}})
    (row,) = attention_shortcuts(attention, quality, SETTINGS).to_pylist()
    assert (row["experiment"], row["flag"], row["patients"], row["videos"]) == ("mil_mesh", "glare", 2, 2)
    assert row["attention"] == pytest.approx((0.7 + 0.5) / 2)
    assert row["chance"] == pytest.approx((1 / 4 + 2 / 5) / 2)
    assert row["difference"] == pytest.approx(row["attention"] - row["chance"])
    # two patients: signs can be flipped in four ways, so p is 0.5 or more
    assert row["p_value"] == 0.5 and row["verdict"] == "cannot be shown"
    (canary,) = attention_canaries(pd.DataFrame([row]))
    assert canary["passed"] is None and "so few patients" in canary["detail"]


def test_videos_that_are_flagged_throughout_or_whose_flag_was_rejected_say_nothing() -> None:
    attention = attention_rows({"a": [0.9, 0.1], "b": [0.9, 0.1]})
    quality = quality_rows({"a": {"glare": [[0, 1.97]]}, "b": {"signage": [[0, 1]]}}, rejected="signage")
    assert attention_shortcuts(attention, quality, SETTINGS).num_rows == 0
    assert attention_shortcuts(VideoAttention.from_rows([]).to_pandas(), quality, SETTINGS).num_rows == 0


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, ""])
def test_a_video_whose_moments_are_missing_says_nothing_and_the_others_do(missing: object) -> None:
    attention = attention_rows({"a": [0.9, 0.1], "b": [0.8, 0.2]})
    quality = quality_rows({"a": {"glare": [[0, 1]]}, "b": {"glare": [[0, 1]]}})
    quality["moments"] = pd.Series([missing, quality["moments"].iloc[1]], dtype=object)
    (row,) = attention_shortcuts(attention, quality, SETTINGS).to_pylist()
    assert (row["patients"], row["attention"]) == (1, 0.8)


def test_p_is_corrected_for_the_number_of_experiments_and_flags() -> None:
    names = [f"{n:02d}" for n in range(12)]
    rng = np.random.default_rng(0)
    shares = {p: [0.5, *rng.dirichlet(np.ones(5)) * 0.5] for p in names}
    attention = pd.concat([attention_rows(shares, e) for e in ("mil_mesh", "mil_behavior")])
    quality = quality_rows({p: {"glare": [[0, 1]], "signage": [[1, 2]]} for p in names})
    rows = attention_shortcuts(attention, quality, SETTINGS).to_pylist()
    assert len(rows) == 4
    glare = [r for r in rows if r["flag"] == "glare"]
    assert all(r["p_value"] == pytest.approx(2 / 2**12) and r["verdict"] == "yes" for r in glare)
    assert [r["p_value_holm"] for r in glare] == pytest.approx([4 * 2 / 2**12] * 2)


def studied(planted: bool, seed: int) -> tuple[Items, pd.DataFrame]:
    """Invent videos in whose seconds of glare the level shows, or does not; 10 seconds of 30 have glare, at any place."""
    rng = np.random.default_rng(seed)
    patients, seconds, columns = 24, 30, 6
    values = rng.normal(size=(patients * seconds, columns)).astype(np.float32)
    spans = {}
    for p in range(patients):
        begin = int(rng.integers(0, seconds - 10))
        glare = slice(p * seconds + begin, p * seconds + begin + 10)
        values[glare, 0] += 3 * planted
        values[glare, 1] += 4 * planted * (p % 4 - 1.5)
        spans[f"{p:04d}"] = {"glare": [[float(begin), begin + 10.0]]}
    lengths = np.full(patients, seconds)
    series = Series(values, np.tile(np.arange(seconds), patients).astype(np.int32), starts_of(lengths))
    items = make_items(
        experiment("mil_embeddings"),
        patient_id=[f"{p:04d}" for p in range(patients)],
        video_id=[f"{p:04d}-1" for p in range(patients)],
        level=[("None", "Low", "Moderate", "Severe")[p % 4] for p in range(patients)],
        inputs={},
        series={"embedding_series": series},
    )
    return items, quality_rows(spans)


def cross_validated(items: Items, folder: Path) -> pd.DataFrame:
    """Train three folds, and return the attention to the videos of the patients left out."""
    chosen, settings = (
        experiment("mil_embeddings"),
        TrainingSettings(attention_epochs=15, attention_learning_rate=3e-3),
    )
    parts: list[pa.Table] = []
    for fold in range(3):
        test = [p for p in items.patients if int(p) // 4 % 3 == fold]
        train = [p for p in items.patients if p not in test]
        fitted = fit_fold(chosen, items.of(train), settings, folder / str(fold))
        parts.append(attention_of_fold(chosen, fitted, items.of(test), settings))
    return pa.concat_tables(parts).to_pandas()


def test_a_model_that_learned_the_glare_is_exposed_and_the_report_says_so(tmp_path: Path) -> None:
    items, quality = studied(planted=True, seed=1)
    shortcuts = attention_shortcuts(cross_validated(items, tmp_path), quality, SETTINGS)
    (row,) = AttentionShortcuts.check_rows(shortcuts).to_pylist()
    assert row["verdict"] == "yes"
    assert row["chance"] == pytest.approx(1 / 3)
    assert row["attention"] > 0.5 and row["difference_low"] > 0.1
    (canary,) = CanaryResults.from_rows(attention_canaries(shortcuts.to_pandas())).to_pylist()
    assert canary["canary"] == "attention to: glare" and canary["subject"] == "mil_embeddings"
    assert canary["passed"] is False and "and not the patient" in canary["detail"]


def test_without_anything_in_the_glare_no_model_is_accused(tmp_path: Path) -> None:
    for seed in range(5):
        items, quality = studied(planted=False, seed=seed)
        (row,) = attention_shortcuts(
            cross_validated(items, tmp_path / str(seed)), quality, SETTINGS
        ).to_pylist()
        assert row["verdict"] != "yes"
        assert row["difference_low"] <= 0 or row["p_value_holm"] > 0.05
        (canary,) = attention_canaries(pd.DataFrame([row]))
        assert canary["passed"] is True


def test_the_evaluation_tests_only_attention_of_models_that_it_evaluates(
    evaluated: dict[str, pa.Table],
) -> None:
    """The invented study has attention of a model with accuracies, and of one without."""
    assert {r["experiment"] for r in evaluated["attention_shortcuts"].to_pylist()} == {"resnet50_4_static"}
    canaries = evaluated["canary_results"].to_pylist()
    assert [c["subject"] for c in canaries if c["canary"] == "attention to: glare"] == ["resnet50_4_static"]
