"""The page of settings in ``docs/``, made from the settings classes so that it cannot go stale unseen.

Belongs here: turning settings into Markdown. Does not belong here: settings (``settings``).
"""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from iss_assets.settings import Section, Settings

_HEAD = """\
# Settings

Every knob, with its default and where the default comes from. Made by `iss docs` from `iss_assets/settings.py`; do not
edit it here. A value comes from an environment variable, or from the file `iss.toml` in `ISS_HOME`, for example

```toml
[quality]
dark_highlight = 0.3
```

or else is the default.
"""


def settings_page() -> str:
    """Give the page as Markdown: a section for each group of settings, a line a setting."""
    text = _HEAD + _table("Where things are", "ISS_", _plain(Settings))
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Section):
            title = f"{name}: {(group.__doc__ or '').strip().splitlines()[0]}"
            text += _table(title, f"ISS_{name.upper()}__", dict(group.model_fields))
    return text


def _plain(settings: type[Settings]) -> dict[str, FieldInfo]:
    return {n: f for n, f in settings.model_fields.items() if not isinstance(f.default, Section)}


def _table(title: str, prefix: str, fields: dict[str, FieldInfo]) -> str:
    rows = "".join(
        f"| `{prefix}{name.upper()}` | {_default(field)} | {_cell(field.description or '')} |\n"
        for name, field in fields.items()
    )
    return f"\n## {title}\n\n| setting | default | meaning and source |\n|---|---|---|\n{rows}"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "by the machine"
    if isinstance(field.default, Path) and field.default.is_absolute():
        return f"`{field.default.name}`, as shipped"
    return f"`{field.default}`" if field.default not in (None, (), {}) else "none"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
