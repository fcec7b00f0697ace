"""The data dictionary, ``docs/data_dictionary.md``, written from the table models."""

from __future__ import annotations

from iss_assets.protocol.recordings import Recording, recording_of
from iss_assets.schemas.base import Table
from iss_assets.schemas.registry import BY_NAME, TABLES

_HEAD = """\
# Data dictionary

Every table of the warehouse, in the order of the data flow. `iss docs` writes this page from the pandera models in
`iss_assets/schemas/`; do not edit it here. The SQL models describe their columns in the `schema.yml` files of
`dbt_like_sql/`.

| table | one row is | key |
|---|---|---|
"""


def data_dictionary() -> str:
    """Return the dictionary as Markdown: an index, then one section per table with types, units and meanings."""
    index = "".join(
        f"| [{t.__table__}](#{t.__table__}) | {t.grain()[0].lower()}{t.grain()[1:]} | {', '.join(t.__key__)} |\n"
        for t in TABLES
    )
    return _HEAD + index + "".join(_section(t) for t in TABLES)


def _section(table: type[Table]) -> str:
    references = "".join(f"`{c}` refers to `{other}`. " for c, other in table.__references__)
    recording, name = recording_of(table.__table__)
    if recording is not Recording.NARRATIVE and name in BY_NAME:
        without = {c.name for c in BY_NAME[name].columns()} - {c.name for c in table.columns()}
        lacks = f", without {', '.join(f'`{c}`' for c in sorted(without))}" if without else ""
        return (
            f"\n## {table.__table__}\n\n{table.grain()} {references}Columns as in [{name}](#{name}){lacks}.\n"
        )
    rows = "".join(
        f"| `{c.name}` | {c.sql} | {c.unit or ''} | {'may be empty' if c.nullable else ''} | {_cell(c.description)} |\n"
        for c in table.columns()
    )
    head = f"\n## {table.__table__}\n\n{table.grain()} {references}".rstrip()
    return f"{head}\n\n| column | type | unit | | meaning |\n|---|---|---|---|---|\n{rows}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
