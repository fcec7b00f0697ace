"""What each role may ask of Dagster's web app."""

from __future__ import annotations

import pytest
from dagster_graphql.schema import create_schema
from starlette.applications import Starlette
from starlette.websockets import WebSocketDisconnect

from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.server.dagster_access import STARTS_AND_STOPS, mutations_in
from iss_assets.settings import Settings
from iss_assets_tests.server.test_security import ADDRESS, WEBSOCKET, application, client, settings

__all__ = ["application", "settings"]

QUERY = "query { version }"
LAUNCH = "mutation Launch { launchRun(executionParams: {}) { __typename } }"
DELETE = 'mutation { deletePipelineRun(runId: "1") { __typename } }'
HIDDEN = (
    "fragment all on Mutation { wipeAssets(assetPartitionRanges: []) { __typename } } mutation { ...all }"
)
BESIDE = 'mutation A { launchRun(executionParams: {}) { __typename } } mutation B { deleteRun(runId: "1") { __typename } }'
SUBSCRIPTION = 'subscription { pipelineRunLogs(runId: "1") { __typename } }'


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (QUERY, set()),
        (LAUNCH, {"launchRun"}),
        (DELETE, {"deletePipelineRun"}),
        (HIDDEN, {"wipeAssets"}),
        (BESIDE, {"launchRun", "deleteRun"}),
        ('mutation { harmless: deleteRun(runId: "1") { __typename } }', {"deleteRun"}),
        ("mutation { ... on Mutation { ... { wipeAssets { __typename } } } }", {"wipeAssets"}),
        ("fragment f on Mutation { ...f } mutation { ...f }", set()),
    ],
)
def test_mutations_are_found_whatever_they_hide_behind(document: str, found: set[str]) -> None:
    assert mutations_in(document) == found


def test_what_cannot_be_parsed_is_not_taken_for_a_query() -> None:
    assert mutations_in("mutation {") is None


def test_every_mutation_that_is_named_exists_in_this_version_of_dagster() -> None:
    mutation = create_schema().graphql_schema.mutation_type
    assert mutation is not None and STARTS_AND_STOPS - mutation.fields.keys() == set()


@pytest.mark.parametrize("role", ["researcher", "coordinator", "admin"])
@pytest.mark.parametrize("document", [QUERY, LAUNCH, DELETE, HIDDEN, BESIDE])
def test_roles_and_mutations(application: Starlette, role: str, document: str) -> None:
    browser = client(application, role)
    answer = browser.post("/dagster/graphql", json={"query": document}, headers={"Origin": ADDRESS})
    may = {"researcher": (QUERY,), "coordinator": (QUERY, LAUNCH)}.get(role)
    assert answer.status_code == (200 if may is None or document in may else 403)
    if answer.status_code == 200:
        found = answer.json()
        assert found["app"] == ("read-only" if role == "researcher" else "full")
        assert found["path"] == "/dagster/graphql" and document.split()[0] in found["body"]
    by_get = browser.get("/dagster/graphql", params={"query": document})
    assert by_get.status_code == answer.status_code
    listed = browser.post(
        "/dagster/graphql", json=[{"query": QUERY}, {"query": document}], headers={"Origin": ADDRESS}
    )
    assert listed.status_code == answer.status_code


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"query": 1}', b"\xff", b'{"query": "mutation {"}'])
def test_a_request_that_cannot_be_understood_is_refused(application: Starlette, body: bytes) -> None:
    headers = {"Origin": ADDRESS, "Content-Type": "application/json"}
    answer = client(application, "coordinator").post("/dagster/graphql", content=body, headers=headers)
    assert answer.status_code == 403


def test_another_content_type_does_not_slip_through(application: Starlette) -> None:
    browser = client(application, "coordinator")
    for kind in ("application/graphql", "multipart/form-data; boundary=x", "text/plain"):
        headers = {"Origin": ADDRESS, "Content-Type": kind}
        assert browser.post("/dagster/graphql", content=DELETE, headers=headers).status_code == 403


@pytest.mark.parametrize("role", ["researcher", "coordinator"])
def test_a_websocket_carries_subscriptions_and_no_mutation(application: Starlette, role: str) -> None:
    browser = client(application, role)
    with browser.websocket_connect(WEBSOCKET, headers={"Origin": ADDRESS}) as socket:
        socket.send_json({"type": "start", "id": "1", "payload": {"query": SUBSCRIPTION}})
        assert "subscription" in socket.receive_text()
        socket.send_json({"type": "start", "id": "2", "payload": {"query": LAUNCH}})
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()


@pytest.mark.parametrize("role", ["researcher", "coordinator", "admin"])
def test_downloads_and_logs(application: Starlette, role: str) -> None:
    browser = client(application, role)
    statuses = {
        part: browser.get(f"/dagster/{part}/x").status_code
        for part in ("logs", "download_debug", "notebook", "dagit", "report_asset_check")
    }
    admin, coordinator = role == "admin", role != "researcher"
    assert statuses == {
        "logs": 200 if coordinator else 403,
        "download_debug": 200 if admin else 403,
        "notebook": 403,
        "dagit": 403,
        "report_asset_check": 200 if admin else 403,
    }


def test_a_researcher_gets_no_picture_out_of_old_metadata(application: Starlette) -> None:
    assert "/9j/" in client(application, "coordinator").get("/dagster/graphql").text
    answer = client(application, "researcher").get("/dagster/graphql")
    assert "/9j/" not in answer.text and answer.json()["metadata"] == "![faces](data:,)"


def test_launching_is_recorded_with_the_account(application: Starlette, settings: Settings) -> None:
    browser = client(application, "coordinator")
    browser.post("/dagster/graphql", json={"query": QUERY}, headers={"Origin": ADDRESS})
    browser.post("/dagster/graphql", json={"query": LAUNCH}, headers={"Origin": ADDRESS})
    lines = [line for line in AuditLog(settings.audit_path).lines() if line.action == Action.RUN_LAUNCHED]
    assert [(line.who, line.detail["mutation"]) for line in lines] == [("coordinator", "launchRun")]
