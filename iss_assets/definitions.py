"""The code location that Dagster loads: ``dagster dev -w workspace.yaml``."""

from iss_assets.loading import quick_loading

with quick_loading():
    from iss_assets.build import build_defs
    from iss_assets.warehouse.engine import keep_running

    defs = build_defs()

# whoever loads this executes runs or evaluates sensors, and opens the warehouse again and again
keep_running()
