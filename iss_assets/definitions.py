"""The code location that Dagster loads: ``dagster dev -w workspace.yaml``."""

from iss_assets.loading import quick_loading

with quick_loading():
    from iss_assets.build import build_defs

    defs = build_defs()
