"""Rules on consent: who has asked to withdraw.

Pure functions from a patient's rows (``sql/``), and what the register of withdrawals has of the patient, to a `Finding`.
"""

from __future__ import annotations

from typing import Final

from iss_assets.checks.findings import Data, Finding, Rule
from iss_assets.protocol.consent import CARRIED_OUT, ConsentState
from iss_assets.settings import Settings

QUERIES: Final = ("consent",)


def withdrawal_requested(data: Data, settings: Settings) -> Finding:
    """Find a patient who has withdrawn from research or sharing, until a person has carried it out.

    A withdrawal from contact is none of these: it holds as soon as it is read, and nothing is to be carried out.
    """
    waiting = set(CARRIED_OUT) - {row["scope"] for row in data["register"]}
    asked = [r for r in data["consent"] if r["state"] == ConsentState.WITHDRAWN and r["scope"] in waiting]
    days = [row["withdrawn_on"] for row in asked if row["withdrawn_on"]]
    numbers = {
        "withdrawn scopes": len(asked),
        "scopes": [row["scope"] for row in asked],
        "asked on": min(days).isoformat() if days else "",
    }
    return Finding(not asked, (), numbers, "none")


RULES: Final[dict[str, Rule]] = {"withdrawal_requested": withdrawal_requested}
