"""Folders that are next to the package in a checkout and inside it in a wheel: the SQL models and the pages of ``docs/``.

``pyproject.toml`` lists the files that a wheel contains.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def shipped_folder(name: str) -> Path:
    """Return the folder with this name that comes with the package.

    A folder of that name next to an installed package is not ours and is ignored.

    Parameters
    ----------
    name : str
        ``dbt_like_sql`` or ``docs``.

    Returns
    -------
    Path
        The folder; it is missing only if the installation is damaged.
    """
    package = Path(str(resources.files("iss_assets"))).resolve()
    inside = package / name
    if not inside.is_dir() and (package.parent / "pyproject.toml").is_file():
        return package.parent / name
    return inside
