"""Fixtures that these tests share with those of ``evaluation``."""

from iss_assets_tests.evaluation.conftest import evaluated, one_evaluated, pool, quick, study

__all__ = ["evaluated", "one_evaluated", "pool", "quick", "study"]
