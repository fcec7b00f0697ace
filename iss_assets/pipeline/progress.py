"""Progress of a job that runs in this process."""

from __future__ import annotations

import logging

PROGRESS = logging.getLogger("iss_assets.progress")
"""Logs the progress of the evaluation, with `done` and `of` in each record; `iss train` draws a bar from it."""
