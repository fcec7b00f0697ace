"""Invented studies of check-ins, evaluated once for all tests of this folder."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from iss_assets.evaluation.check_ins.study import CheckInInputs, evaluate_check_ins
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import InventedCheckIns, invent_check_ins


def evaluate(study: InventedCheckIns, settings: CheckInSettings) -> dict[str, pd.DataFrame]:
    """Evaluate an invented study; return its tables as data frames."""
    inputs = CheckInInputs(study.bpi_scores, study.splits, study.measures)
    return {name: table.to_pandas() for name, table in evaluate_check_ins(inputs, settings).items()}


@pytest.fixture(scope="session")
def quick() -> CheckInSettings:
    """Few resamples, small models, one target: for tests of behavior, not of figures."""
    return CheckInSettings(targets=("pain_now",), bootstrap_samples=499, permutations=1999, trees=10)


@pytest.fixture(scope="session")
def planted(quick: CheckInSettings) -> SimpleNamespace:
    """29 patients with 10 check-ins, and a sign in the voice that correlates 0.6 with the day's pain."""
    study = invent_check_ins(29, 10, effect=0.6, seed=1)
    return SimpleNamespace(study=study, tables=evaluate(study, quick))


@pytest.fixture(scope="session")
def nothing(quick: CheckInSettings) -> SimpleNamespace:
    """The same without any sign."""
    study = invent_check_ins(29, 10, effect=0.0, seed=1)
    return SimpleNamespace(study=study, tables=evaluate(study, quick))
