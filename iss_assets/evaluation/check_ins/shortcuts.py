"""Test whether networks that predict check-ins look at what is wrong with a recording, as ``evaluation.attention`` does for the paper's target."""

from __future__ import annotations

from typing import Any

import pandas as pd

from iss_assets.evaluation.attention import shortcut_rows
from iss_assets.settings import CheckInSettings

_NETWORK = ["target", "protocol", "model"]
_STRETCH = ["patient_id", "video_id", "instance"]


def check_in_shortcuts(
    attention: pd.DataFrame, video_quality: pd.DataFrame, settings: CheckInSettings
) -> list[dict[str, Any]]:
    """Compare the attention that flagged stretches of narratives get with what they would get by chance.

    The network for known patients reads a narrative once for each number of known check-ins. It is one network all the same, and is
    tested once, on the mean of these: more tests of the same would only cost power.

    Parameters
    ----------
    attention : pandas.DataFrame
        ``check_in_attention``.
    video_quality : pandas.DataFrame
        Rows of that name; a flag that a person rejected does not count.
    settings : CheckInSettings
        Confidence, resamples, permutations, seed.

    Returns
    -------
    list of dict
        Rows of ``check_in_shortcuts``, for each network and each flag that a video can tell about.
    """
    stretches = attention.groupby([*_NETWORK, *_STRETCH], as_index=False, sort=False).agg(
        start_s=("start_s", "first"), end_s=("end_s", "first"), attention=("attention", "mean")
    )
    return shortcut_rows(stretches, video_quality, _NETWORK, settings)
