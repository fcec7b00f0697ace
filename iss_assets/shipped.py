"""Folders that lie beside the package in a checkout and inside it in a wheel: the SQL models and the pages of ``docs/``.

Belongs here: where they are. Does not belong here: reading them (``warehouse.sql.models``, ``cli``). Which files a
wheel takes along stands in ``pyproject.toml``.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def shipped_folder(name: str) -> Path:
    """Return the folder of this name that comes with the package.

    A folder of that name beside an installed package belongs to somebody else and is not looked at.

    Parameters
    ----------
    name : str
        ``dbt_like_sql`` or ``docs``.

    Returns
    -------
    Path
        The folder, which is missing only if the installation is damaged.
    """
    package = Path(str(resources.files("iss_assets"))).resolve()
    inside = package / name
    if not inside.is_dir() and (package.parent / "pyproject.toml").is_file():
        return package.parent / name
    return inside
