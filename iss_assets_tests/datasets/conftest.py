"""Fixtures that these tests share with those of ``modeling``."""

from iss_assets_tests.modeling.conftest import made_once, one_thread, small_backbone, study

__all__ = ["made_once", "one_thread", "small_backbone", "study"]
