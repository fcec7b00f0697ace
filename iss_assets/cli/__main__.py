"""``python -m iss_assets.cli``: the command ``iss``."""

from iss_assets.cli.commands import app

app()
