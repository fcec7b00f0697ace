"""The version of a package that is installed."""

from __future__ import annotations

from importlib import metadata


def installed_version(name: str = "iss-assets") -> str:
    """Return the version of a package that was installed, whatever folder a process was started in.

    A checkout in which a wheel of an earlier version was built keeps an ``egg-info`` folder, which Python finds first where the
    current folder is on its path (``python -m``). It lists no installed files, as an installation does.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If the package is not installed.
    """
    found = metadata.distributions(name=name)
    return next((each.version for each in found if each.read_text("RECORD")), metadata.version(name))
