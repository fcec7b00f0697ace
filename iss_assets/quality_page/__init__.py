"""The quality page and ``iss quality``: what to do, the most costly first, and how rates move.

Belongs here: collecting (``report``), printing (``text``), the page (``page``, ``templates``).
Does not belong here: checks, thresholds, words about checks (``checks.catalogue``), sending (``alerts``).
"""

from iss_assets.quality_page.page import write_quality_page
from iss_assets.quality_page.report import Cost, Item, Level, QualityReport, quality_report
from iss_assets.quality_page.text import format_quality

__all__ = [
    "Cost",
    "Item",
    "Level",
    "QualityReport",
    "format_quality",
    "quality_report",
    "write_quality_page",
]
