"""How far a job is that runs in this process."""

from __future__ import annotations

import logging

PROGRESS = logging.getLogger("iss_assets.progress")
"""Told how far the evaluation is, with `done` and `of` in each record: `iss train` draws a bar of it."""
