"""Rules on thermal pictures: whether they can be read, and whether what they show can be skin.

Pure functions from a patient's rows (``sql/thermal.sql``) to a `Finding`.
"""

from __future__ import annotations

from typing import Final

from iss_assets.checks.findings import Data, Finding, Rule, found_in
from iss_assets.settings import Settings

QUERIES: Final = ("thermal",)


def thermal_unreadable(data: Data, settings: Settings) -> Finding:
    """Find thermal pictures that hold no temperatures, or that nothing is installed to read."""
    rows = data["thermal"]
    missing = sum(row["status"] == "not_read" for row in rows)
    affected = [row["submission_id"] for row in rows if row["status"] != "ok"]
    numbers = {"not read for want of the extra": missing} if missing else {}
    return found_in(affected, len(rows), "every thermal picture is read", numbers)


def skin_temperature(data: Data, settings: Settings) -> Finding:
    """Find thermal pictures without a face, or with a forehead that is colder or warmer than skin."""
    least, most = settings.checks.forehead_coldest_c, settings.checks.forehead_warmest_c
    rows = [row for row in data["thermal"] if row["status"] == "ok"]
    foreheads = {row["submission_id"]: row["forehead_c"] for row in rows}
    affected = [i for i, celsius in foreheads.items() if celsius is None or not least <= celsius <= most]
    return found_in(
        affected,
        len(rows),
        f"a forehead of {least:g} to {most:g} degrees Celsius",
        {
            "without a face": sum(not row["face_found"] for row in rows),
            "forehead in degrees": {
                i: round(celsius, 1) for i in affected[:20] if (celsius := foreheads[i]) is not None
            },
        },
    )


RULES: Final[dict[str, Rule]] = {
    "thermal_unreadable": thermal_unreadable,
    "skin_temperature": skin_temperature,
}
