"""The command ``iss``."""

from iss_assets.cli.main import app

__all__ = ["app"]
