"""The command ``iss``."""

from iss_assets.cli.commands import app

__all__ = ["app"]
