"""Fixtures that these tests share with those of ``checks``."""

from iss_assets_tests.checks.conftest import healthy_warehouse, study

__all__ = ["healthy_warehouse", "study"]
