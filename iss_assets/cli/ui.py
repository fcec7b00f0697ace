"""``iss ui``, the name that ``iss serve`` had before."""

from __future__ import annotations

from iss_assets.cli.options import Home, Study
from iss_assets.cli.serve import Host, Port, serve


def ui(study: Study = None, home: Home = None, host: Host = None, port: Port = None) -> None:
    """Do the same as `iss serve`."""
    serve(study, home, host, port)
