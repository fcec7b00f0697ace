"""The record of tables and views that SQL models made, and removing those whose file was deleted.

A model's table is only removed if the record says that it was made from this folder of models and the object with its name
is still the same: of the same kind, with the same definition and the same comment. A table of the pipeline is never in the
record. A researcher's own table has another definition or no such comment, even if it has a model's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from iss_assets.schemas.registry import BY_NAME
from iss_assets.warehouse.database import Writer
from iss_assets.warehouse.sql.models import SqlModels

_TABLE = """
create schema if not exists loader;
create table if not exists loader.models_made (
    name varchar not null, kind varchar not null, definition_hash varchar not null, folder_hash varchar not null
);
comment on table loader.models_made is 'One row per table or view that a SQL model made, by which it is recognized later.';
"""

# DuckDB writes down a definition as it understood it: a view that was copied has other parentheses, and the shared warehouse
# adds to a table the default that every column has
_OBJECTS = """
select
    table_name as name, 'table' as kind,
    md5(replace(sql, ' DEFAULT(NULL)', '') || coalesce(comment, '')) as definition_hash
from duckdb_tables()
where database_name = current_database() and schema_name = 'main'
union all
select view_name, 'view', md5(regexp_replace(sql, '[()"\\s]', '', 'g') || coalesce(comment, ''))
from duckdb_views()
where database_name = current_database() and schema_name = 'main' and not internal
"""


def record(writer: Writer, models: SqlModels, names: Sequence[str]) -> None:
    """Record that these models were just made, as the catalog shows them in this transaction."""
    writer.execute(_TABLE)
    folder = _folder_hash(models)
    writer.execute(
        "update loader.models_made r set kind = o.kind, definition_hash = o.definition_hash, folder_hash = ? "
        f"from ({_OBJECTS}) o where r.name = o.name and list_contains(?, o.name)",
        [folder, list(names)],
    )
    writer.execute(
        f"insert into loader.models_made select name, kind, definition_hash, ? from ({_OBJECTS}) "
        "where list_contains(?, name) and name not in (select name from loader.models_made)",
        [folder, list(names)],
    )


def remove_gone(writer: Writer, models: SqlModels) -> list[str]:
    """Remove what models of this folder made and no longer have a file for; return their names.

    A file with an error is not gone: its table stays. If something else has the name by now, only the record is removed.
    """
    made = writer.query(
        f"select r.name, r.kind, r.definition_hash = o.definition_hash and r.kind = o.kind as ours from loader.models_made r "
        f"left join ({_OBJECTS}) o using (name) where r.folder_hash = ? order by r.name",
        [_folder_hash(models)],
    ).to_pylist()
    removed = []
    for row in made:
        name = row["name"]
        if name in models.models or name in models.broken:
            continue
        if row["ours"] and name not in BY_NAME:
            writer.execute(f'drop {row["kind"]} "{name}"')
            removed.append(name)
        writer.execute("delete from loader.models_made where name = ?", [name])
    return removed


def _folder_hash(models: SqlModels) -> str:
    """Return a hash of the folder's path: models of another folder are not missed in this one, and no path is kept."""
    return hashlib.sha256(str(models.folder.resolve()).encode()).hexdigest()[:16]
