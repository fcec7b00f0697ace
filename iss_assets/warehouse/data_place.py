"""What the shared warehouse needs of the place where its data files are; there are two such places.

``data_folder`` is a folder that every host sees, ``data_bucket`` a bucket of object storage (S3). `data_places.place_of` chooses.
DuckLake reads and writes the files of tables itself; this is about everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import duckdb

from iss_assets.warehouse.errors import WarehouseAway

STUDY_MARK: Final = ".study-"
"""Begin of the name of an empty folder or object beside the data; the rest is the id of the study (``lake_study``)."""


class Committing(Protocol):
    """A commit in progress: DuckLake takes it for failed if its answer is lost, and would remove files that the catalog names."""

    def put_back(self) -> None:
        """Let every file be where it was, because the commit has been carried out."""

    def forget(self) -> None:
        """End what was done for this commit; its outcome is known."""


class DataPlace(Protocol):
    """The place of a shared warehouse's data files. Every method may raise `OSError`; see `problems`.

    Attributes
    ----------
    name : str
        What messages call it, with the setting that names it.
    address : str
        What DuckDB calls it, with a slash at the end.
    gone : str
        What is told if it is empty although the catalog names files in it.
    folder : Path or None
        The same as a folder of this host's file system, if it is one.
    guards_commits : bool
        Whether a commit changes what its DuckDB can reach, so that others must not use the same one.
    """

    name: str
    address: str
    gone: str
    folder: Path | None
    guards_commits: bool

    def extensions(self) -> list[str]:
        """Return the names of the extensions that DuckDB needs to reach it, besides those of the lake."""

    def connect(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a DuckDB that has the extensions reach it; done again, it renews what has expired."""

    def explained(self, text: str) -> str:
        """Return the text of an error of DuckDB without the place's address; after the place's name if it is about this place."""

    def prepare(self) -> None:
        """Make it, if it is something that can be made."""

    def has_entries(self) -> bool:
        """Return whether there is something in it besides the id of its study."""

    def marks(self) -> set[str]:
        """Return the names that begin with `STUDY_MARK`."""

    def mark(self, name: str) -> None:
        """Leave one of those."""

    def known_by(self) -> Hashable:
        """Return what it is known by as long as the same name means the same place."""

    def require_writable(self) -> None:
        """Check that it can be written to, and has room.

        Raises
        ------
        WarehouseAway
            If not.
        """

    def committing(self, connection: duckdb.DuckDBPyConnection, name: str, since: float) -> Committing:
        """Keep the files that a writer has written `since` its turn began until the outcome of its commit is known.

        Parameters
        ----------
        connection : duckdb.DuckDBPyConnection
            The one that is about to commit.
        name : str
            Of the commit, unlike any other.
        since : float
            Begin of the turn, by this host's clock.
        """

    def put_back_missing(self, named: Callable[[], Set[str]]) -> None:
        """Put back the `named` files that a writer, which died then, has removed; in the writer's turn."""

    def tidy(self, older_than_s: float) -> list[str]:
        """Remove what writers that died have left besides files of tables; return what it may not remove, and who can."""

    def files(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return every file, by the names that the catalog uses."""

    def erase_history(self) -> list[str]:
        """Remove what is still kept of files that were removed or replaced; return what it may not remove, and who can."""


@contextmanager
def problems(place: DataPlace, outcome: str = "nothing was written") -> Iterator[None]:
    """Turn an error of the place in the block into one that names the setting and not the address.

    Raises
    ------
    WarehouseAway
        With what the system says: the disk is full, the folder is read-only, there are no credentials.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise WarehouseAway(f"{place.name}, cannot be used: {why}; {outcome}") from None
