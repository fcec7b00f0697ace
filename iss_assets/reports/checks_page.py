"""The list of checks in ``docs/checks.md``, written from the catalogue so that both always agree."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from iss_assets.protocol.catalogue import CATALOGUE, CheckInfo

BEGIN: Final = "<!-- begin: written by `iss docs` from iss_assets/protocol/catalogue.py and flags.py -->"
END: Final = "<!-- end: written by `iss docs` -->"

_EXAMPLE_PATIENT: Final = "0012"


def checks_page(page: str) -> str:
    """Return the page on checks with its tables as the catalogue has them now; the text around them stays.

    Parameters
    ----------
    page : str
        The page, with the lines `BEGIN` and `END` around the tables.

    Raises
    ------
    ValueError
        If one of the two lines is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("checks.md has lost the comment lines between which iss docs writes: restore them")
    tables = "".join(_table(asset, list(checks)) for asset, checks in groupby(CATALOGUE, lambda c: c.asset))
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def _table(asset: str, checks: list[CheckInfo]) -> str:
    rows = "".join(f"| {' | '.join(_cells(check))} |\n" for check in checks)
    return (
        f"\n### On `{asset}`\n\n"
        "| check | a failure means | severity | what the coordinator does | source |\n"
        f"|---|---|---|---|---|\n{rows}"
    )


def _cells(check: CheckInfo) -> list[str]:
    flags = ", ".join(f"`{flag}`" for flag in check.flags)
    noun = "flag" if len(check.flags) == 1 else "flags"
    meaning = f"{check.title} ({noun} {flags})" if flags else check.title
    cells = [f"`{check.name}`", meaning, check.severity, check.advise(_EXAMPLE_PATIENT), check.source]
    return [cell.replace("|", "\\|") for cell in cells]
