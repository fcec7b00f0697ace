"""Whose data may leave the home: consent to sharing, asked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb

from iss_assets.intake.withdrawn import Withdrawn
from iss_assets.protocol.consent import Scope

_CONSENTING: Final = """
select p.patient_id
from patients as p
inner join consent as c on c.patient_id = p.patient_id and c.scope = $scope and c.state = 'given'
-- who has left the study shares nothing with others
where not exists (
    from consent as r
    where r.patient_id = p.patient_id and r.scope = 'research' and r.state <> 'given'
)
order by p.patient_id
"""


@dataclass(frozen=True)
class Sharing:
    """Whose data may be shared.

    Attributes
    ----------
    patients : tuple of str
        Patients who may be shared, sorted.
    withheld : tuple of str
        Patients who may not, sorted.
    recorded : bool
        Whether anything is known of anybody's consent. If not, every patient is in `patients`.
    """

    patients: tuple[str, ...]
    withheld: tuple[str, ...]
    recorded: bool

    @property
    def left_out(self) -> int:
        """How many patients may not be shared."""
        return len(self.withheld)


def may_share(
    connection: duckdb.DuckDBPyConnection, scope: Scope | str, withdrawn: Withdrawn | None = None
) -> Sharing:
    """Return whose data may be given to others.

    In a study with a ``consent.csv``, only patients who gave consent to this very scope and have not withdrawn it, nor
    that to research.

    Parameters
    ----------
    connection : DuckDBPyConnection
        An open warehouse.
    scope : Scope
        `Scope.SHARE_FEATURES` for numbers, `Scope.SHARE_MEDIA` for pictures and sound.
    withdrawn : Withdrawn, optional
        The home's register; who withdrew from sharing (`iss withdraw --scope sharing`) is withheld whatever the consent.
    """
    scope = Scope(scope)
    everyone = _ids(connection.execute("select patient_id from patients order by patient_id"))
    if connection.execute("select 1 from consent limit 1").fetchone() is None:
        return _sharing(everyone, everyone, withdrawn, recorded=False)
    consenting = _ids(connection.execute(_CONSENTING, {"scope": str(scope)}))
    return _sharing(consenting, everyone, withdrawn, recorded=True)


def _sharing(
    consenting: list[str], everyone: list[str], withdrawn: Withdrawn | None, *, recorded: bool
) -> Sharing:
    shared = [p for p in consenting if withdrawn is None or withdrawn.may_be_shared(p)]
    return Sharing(tuple(shared), tuple(sorted({*everyone} - {*shared})), recorded)


def _ids(rows: duckdb.DuckDBPyConnection) -> list[str]:
    return [str(row[0]) for row in rows.fetchall()]
