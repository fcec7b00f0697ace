"""Test whether models look at what is wrong with a recording: glare, lettering, too little light.

An experiment on whole videos stores how its attention is shared among the stretches of each test video. A model that looks at
flagged stretches more than at others may have learned the room and not the patient, as models of X-rays have learned the
hospital's own tokens in the corner of the film (Zech et al., PLoS Medicine 15 (2018), e1002683).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from iss_assets.evaluation.frames import rows_of
from iss_assets.evaluation.intervals import bca_interval, holm, least_holm, mean_of
from iss_assets.evaluation.permutation import least_sign_flip_p, sign_flip_p
from iss_assets.evaluation.verdicts import verdict
from iss_assets.protocol.flags import FLAGS
from iss_assets.schemas.evaluation import AttentionShortcuts
from iss_assets.settings import CheckInSettings, EvaluationSettings

SHORTCUTS: Final = ("glare", "signage", "dark", "grainy", "blurred")
"""Flags that are about the room and the phone, and hold for stretches of a video."""


CANARY: Final = "attention to: "
"""How the names of these canaries begin."""


def covered(start: np.ndarray, end: np.ndarray, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return which share of each stretch, from `start` to `end`, lies in spans that do not overlap.

    Examples
    --------
    >>> covered(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]), [(0.5, 2.0)]).tolist()
    [0.5, 1.0, 0.0]
    """
    inside = np.zeros(len(start))
    for begin, stop in spans:
        inside += np.clip(np.minimum(end, stop) - np.maximum(start, begin), 0, None)
    share: np.ndarray = np.clip(inside / (end - start), 0, 1)
    return share


def attention_shortcuts(
    attention: pd.DataFrame, video_quality: pd.DataFrame, settings: EvaluationSettings
) -> pa.Table:
    """Compare the attention that flagged stretches get with what they would get by chance.

    By chance, attention has nothing to do with the flag: wherever in a video it falls, flagged stretches get on average the
    share of the video that they make up. A stretch is flagged if the flag holds for half of it or more, and only videos with
    flagged and other stretches can tell. Their shares are averaged by patient; intervals are over patients, and p is from flipping the signs of patients' differences, with Holm's correction
    over all experiments and flags.

    Parameters
    ----------
    attention : pandas.DataFrame
        ``video_attention``.
    video_quality : pandas.DataFrame
        Rows of that name; a flag that a person rejected does not count.
    settings : EvaluationSettings
        Confidence, resamples, permutations, seed.

    Returns
    -------
    pyarrow.Table
        ``attention_shortcuts``: a row for each experiment and each of the `SHORTCUTS` that a video can tell about.
    """
    return AttentionShortcuts.from_rows(shortcut_rows(attention, video_quality, ["experiment"], settings))


def shortcut_rows(
    attention: pd.DataFrame,
    video_quality: pd.DataFrame,
    keys: Sequence[str],
    settings: EvaluationSettings | CheckInSettings,
) -> list[dict[str, Any]]:
    """Compare attention with chance as `attention_shortcuts` does, for whatever the columns `keys` tell apart.

    Parameters
    ----------
    attention : pandas.DataFrame
        `keys`, ``patient_id``, ``video_id``, ``start_s``, ``end_s``, ``attention``.
    video_quality : pandas.DataFrame
        As of `attention_shortcuts`.
    keys : sequence of str
        Columns that name a model. Holm's correction is over all models and flags.
    settings : EvaluationSettings or CheckInSettings
        As of `attention_shortcuts`.

    Returns
    -------
    list of dict
        `keys`, ``flag``, and the columns of ``attention_shortcuts`` after it.
    """
    flagged = {
        r.video_id: {
            flag: spans
            for flag, spans in json.loads(
                r.moments if isinstance(r.moments, str) and r.moments else "{}"
            ).items()
            if flag in SHORTCUTS and flag in list(r.flags)
        }
        for r in rows_of(video_quality)
    }
    videos: list[dict[str, Any]] = []
    for (*model, patient, video), own in attention.groupby([*keys, "patient_id", "video_id"]):
        for flag, spans in flagged.get(video, {}).items():
            inside = covered(own["start_s"].to_numpy(float), own["end_s"].to_numpy(float), spans) >= 0.5
            if inside.any() and not inside.all():
                videos.append(
                    {
                        **dict(zip(keys, model, strict=True)),
                        "flag": flag,
                        "patient_id": patient,
                        "attention": float(own["attention"].to_numpy(float) @ inside),
                        "chance": float(inside.mean()),
                    }
                )
    if not videos:
        return []
    rows = [
        {**dict(zip([*keys, "flag"], named, strict=True)), **_row(own, settings)}
        for named, own in pd.DataFrame(videos).groupby([*keys, "flag"])
    ]
    p = [row["p_value"] for row in rows]
    least = [row.pop("p_least") for row in rows]
    for row, adjusted, reachable in zip(rows, holm(p), least_holm(p, least), strict=True):
        row |= {"p_value_holm": float(adjusted), "p_least_holm": float(reachable)}
        row["verdict"] = verdict(
            row["difference"],
            row["difference_low"],
            row["p_value_holm"],
            row["p_least_holm"],
            settings.alpha,
        )
    return rows


def _row(videos: pd.DataFrame, settings: EvaluationSettings | CheckInSettings) -> dict[str, Any]:
    patients = videos.groupby("patient_id")[["attention", "chance"]].mean()
    difference = (patients["attention"] - patients["chance"]).to_numpy(float)
    interval = bca_interval(
        mean_of(difference),
        len(difference),
        confidence=settings.confidence,
        samples=settings.bootstrap_samples,
        seed=settings.seed,
    )
    return {
        "patients": len(patients),
        "videos": len(videos),
        "attention": float(patients["attention"].mean()),
        "chance": float(patients["chance"].mean()),
        "difference": float(difference.mean()),
        "difference_low": interval.low,
        "difference_high": interval.high,
        "p_value": sign_flip_p(difference, settings.permutations, settings.seed),
        "p_least": least_sign_flip_p(difference, settings.permutations),
    }


def attention_canaries(shortcuts: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of ``canary_results`` about attention to flagged stretches.

    Such a canary fails where a model looks at flagged stretches more than chance would (verdict yes), and neither passes nor
    fails where so few patients could not have shown it.
    """
    return [
        {
            "canary": f"{CANARY}{FLAGS[r.flag]}",
            "subject": r.experiment,
            "value": float(r.attention),
            "limit_value": float(r.chance),
            "passed": None if r.verdict == "cannot be shown" else r.verdict != "yes",
            "detail": _in_words(r),
        }
        for r in rows_of(shortcuts)
    ]


def _in_words(row: Any) -> str:
    interval = (
        ""
        if pd.isna(row.difference_low)
        else f", interval {100 * row.difference_low:+.0f} to {100 * row.difference_high:+.0f}"
    )
    text = (
        f"{row.attention:.0%} of the attention is on stretches with this flag, which are {row.chance:.0%} of the videos. Difference "
        f"{100 * row.difference:+.0f} percentage points{interval}, {row.patients} {'patient' if row.patients == 1 else 'patients'}, "
        f"p (Holm) {row.p_value_holm:.3f}."
    )
    if row.verdict == "yes":
        return f"{text} The model may have learned the recording and not the patient."
    if row.verdict == "cannot be shown":
        return f"{text} With so few patients no result could have been told from chance."
    return text
