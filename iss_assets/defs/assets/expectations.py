"""The asset ``study_expectations``: whether the study as a whole is as expected.

The suites are in ``checks.study``.
"""

from collections.abc import Callable

import dagster as dg

from iss_assets.checks.findings import Finding
from iss_assets.checks.stages import CHECKS_CODE_VERSION
from iss_assets.checks.study import ASSET, SUITES, read_frames, run_suites
from iss_assets.defs.assets.common import OWNERS
from iss_assets.defs.assets.reports import link
from iss_assets.defs.checks.factory import broken, check_spec, report
from iss_assets.defs.resources import WarehouseResource
from iss_assets.protocol.catalogue import CATALOGUE, WHOLE_STUDY, find
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import fingerprint


def expectation_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the asset; it depends on the faces where the settings have them compared."""

    @dg.asset(
        name=ASSET,
        description=(
            "The suites of Great Expectations over the study, with their Data Docs.\n\n"
            "Cohorts against the goal of seven, balance of classes, distribution of the answers, drift of quality between "
            "months, flags by sex and skin; and whether one face is seen under two patients. They are about the study; the schema checks are about the shape of tables."
        ),
        group_name="quality",
        kinds={"python", "greatexpectations"},
        owners=OWNERS,
        tags={"stage": "quality"},
        deps=[
            "patients",
            "bpi_scores",
            "video_quality",
            "rejected_rows",
            *(["videos", "face_identity"] if settings.identity.enabled else []),
        ],
        code_version=CHECKS_CODE_VERSION,
        check_specs=[check_spec(check) for check in CATALOGUE if check.asset == ASSET],
    )
    def study_expectations(context: dg.AssetExecutionContext, warehouse: WarehouseResource):  # type: ignore[no-untyped-def]
        """Run every suite over the study and write the Data Docs; compare the patients' faces."""
        from iss_assets.checks.identity import RULES

        current, store = warehouse.settings(), warehouse.warehouse()
        pages = current.reports_dir / "data_docs"
        frames = read_frames(store, current)
        found = {
            name: broken(outcome) if isinstance(outcome, Exception) else outcome
            for name, outcome in run_suites(frames, current, pages).items()
        }
        findings = [(find(ASSET, suite.name), found[suite.name]) for suite in SUITES]
        findings += [(find(ASSET, name), _try(rule, store, current)) for name, rule in RULES.items()]
        yield dg.MaterializeResult(
            metadata={
                "data_docs": link(pages / "index.html", current)["open"],
                "suites": len(SUITES),
                "failed": [check.name for check, outcome in findings if not outcome.passed],
            },
            data_version=dg.DataVersion(
                fingerprint(
                    [f.to_dict("records") for f in frames.values()],
                    [found.numbers for _, found in findings[len(SUITES) :]],
                    current.checks.digest(),
                )
            ),
        )
        yield from report(store, current, WHOLE_STUDY, findings, context.run.run_id, context.log.error)

    return [study_expectations]


def _try(rule: Callable[[Warehouse, Settings], Finding], store: Warehouse, settings: Settings) -> Finding:
    try:
        return rule(store, settings)
    except Exception as error:
        return broken(error)
