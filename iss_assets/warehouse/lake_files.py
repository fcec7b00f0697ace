"""The shared warehouse's data files and its catalog: which files it names, and whether the place of the files is the right one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from iss_assets.warehouse.data_place import DataPlace, problems
from iss_assets.warehouse.errors import WarehouseAway
from iss_assets.warehouse.lake_catalog import rows, value

NAMED: Final = """
select distinct
    case
        when not f.path_is_relative then ''
        when not t.path_is_relative then t.path
        when not s.path_is_relative then s.path || t.path
        else (select value from ducklake_metadata where key = 'data_path' and scope is null) || s.path || t.path
    end || f.path
from (
    select table_id, path, path_is_relative from ducklake_data_file
    union all
    select table_id, path, path_is_relative from ducklake_delete_file
) as f
join ducklake_table as t using (table_id)
join ducklake_schema as s using (schema_id)
"""
"""Every file that the catalog names, of any snapshot."""


def named_files(session: Any) -> set[str]:
    """Return every file that the catalog names, of any snapshot."""
    return {path for (path,) in rows(session, NAMED)}


def place_with_files(place: DataPlace, session: Any) -> Hashable:
    """Return what the place of the data is known by, such as a folder until it is mounted anew.

    Raises
    ------
    WarehouseAway
        If it is not there, or is empty while the catalog names files: written into it, they would be on this host only.
    """
    if not place.has_entries() and value(
        session, "select exists (select from ducklake_data_file where end_snapshot is null)"
    ):
        raise WarehouseAway(place.gone)
    place.prepare()
    return place.known_by()


def require_room(place: DataPlace, session: Any) -> None:
    """Check that the place of the data is there, can be written to, and has room.

    Raises
    ------
    WarehouseAway
        If not.
    """
    with problems(place):
        place_with_files(place, session)
        place.require_writable()


def require_same_place(place: DataPlace, before: Hashable) -> None:
    """Check that the place of the data is the one that was there before.

    Raises
    ------
    WarehouseAway
        If it was unmounted or mounted anew: what has been written meanwhile may be elsewhere.
    """
    if place.known_by() != before:
        raise WarehouseAway(
            f"{place.name}, was unmounted or mounted anew while it was written to; nothing was written"
        )
