"""``python -m iss_assets.cli``: the command ``iss``."""

from iss_assets.cli.main import app

app()
