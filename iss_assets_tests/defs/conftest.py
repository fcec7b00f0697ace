"""A fixture that these tests share with those of ``modeling``."""

from iss_assets_tests.modeling.conftest import made_once

__all__ = ["made_once"]
