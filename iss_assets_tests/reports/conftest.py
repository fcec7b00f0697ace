"""Fixtures that these tests share with those of ``evaluation``."""

from iss_assets_tests.evaluation.conftest import judged, one_judged, pool, quick, study

__all__ = ["judged", "one_judged", "pool", "quick", "study"]
