"""The quality page and ``iss quality``: present troubles by patient with what to do about each, and how rates move.

Belongs here: collecting (``report``), printing (``text``), the page (``page``, ``templates``).
Does not belong here: checks, thresholds, words about checks (``checks.catalogue``), sending (``alerts``).
"""

from iss_assets.quality_page.page import write_quality_page
from iss_assets.quality_page.report import QualityReport, Trouble, quality_report
from iss_assets.quality_page.text import format_quality

__all__ = ["QualityReport", "Trouble", "format_quality", "quality_report", "write_quality_page"]
