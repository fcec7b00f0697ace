"""Fixtures that these tests share with those of ``intake``."""

from iss_assets_tests.intake.conftest import make_study

__all__ = ["make_study"]
