"""Dagster's own web app behind our sign-in: what each role may ask of it.

Dagster knows no roles: its web app is read-only or it is not, and everybody who reaches it may delete runs. So
researchers get a read-only one, without downloads and without pictures that older versions put into metadata, and
coordinators a full one of whose mutations only those pass that start and stop work. Queries pass for everybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from graphql.language.ast import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    SelectionSetNode,
)
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iss_assets.server.accounts import Role
from iss_assets.server.security import refuse

HARMLESS: Final = frozenset({"logTelemetry", "setNuxSeen"})
"""Mutations that the web app sends by itself."""
STARTS_AND_STOPS: Final = HARMLESS | {
    "launchRun", "launchMultipleRuns", "launchPipelineExecution", "launchRunReexecution",
    "launchPipelineReexecution", "launchPartitionBackfill", "reexecutePartitionBackfill",
    "cancelPartitionBackfill", "resumePartitionBackfill", "terminateRun", "terminateRuns",
    "terminatePipelineExecution", "startSchedule", "stopRunningSchedule", "startSensor", "stopSensor",
    "sensorDryRun", "scheduleDryRun", "setSensorCursor", "setAutoMaterializePaused", "freeConcurrencySlots",
    "freeConcurrencySlotsForRun", "reloadRepositoryLocation", "reloadWorkspace",
}  # fmt: skip
"""What a coordinator may do: launch and stop runs, sensors, and schedules. Nothing that deletes or edits history."""
_MAY: Final[dict[Role, frozenset[str] | None]] = {
    Role.RESEARCHER: HARMLESS,
    Role.COORDINATOR: STARTS_AND_STOPS,
    Role.ADMIN: None,
}
_ADMIN_ONLY: Final = (
    "download_debug",
    "report_asset_materialization",
    "report_asset_check",
    "report_asset_observation",
)
_NEVER: Final = ("notebook", "dagit")
"""``notebook`` reads any file of the machine that ends in .ipynb."""
_LOGS: Final = "logs"
_LONGEST_REQUEST: Final = 4_000_000
"""Bytes of a GraphQL request; the web app's longest has some ten thousand."""
_PICTURE: Final = re.compile(rb"data:image/(?:jpe?g|png|webp|gif)[^)\"'\s\\]*")

LaunchNoted = Callable[[str, str], Awaitable[None]]
"""Called with the account's name and the mutation's, before a mutation passes."""


class DagsterAccess:
    """Passes requests below a prefix to Dagster's web app, as far as the session's role allows.

    Parameters
    ----------
    prefix : str
        Such as ``/dagster``; both web apps were made with it as their path prefix.
    full, read_only : ASGI applications
        Dagster's web app over a full and a read-only workspace.
    noted : callable
        See `LaunchNoted`.
    """

    def __init__(self, prefix: str, full: ASGIApp, read_only: ASGIApp, noted: LaunchNoted) -> None:
        self._prefix, self._full, self._read_only, self._noted = prefix, full, read_only, noted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket of somebody who is signed in."""
        session = scope["state"]["session"]
        role: Role = session.role
        # the mount has moved the prefix into root_path; Dagster's routes contain it themselves
        scope = {**scope, "root_path": ""}
        part = scope["path"].removeprefix(self._prefix).lstrip("/").split("/", 1)[0]
        if part in _NEVER or (part in _ADMIN_ONLY and role is not Role.ADMIN):
            await refuse(scope, receive, send, 403, "Your account may not do this.")
            return
        if part == _LOGS and not role.includes(Role.COORDINATOR):
            await refuse(scope, receive, send, 403, "Your account may not read logs.")
            return
        app = self._full if role.includes(Role.COORDINATOR) else self._read_only
        if role is Role.RESEARCHER:
            send = _without_pictures(send)
            # compressed answers could not be searched
            kept = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            scope = {**scope, "headers": kept}
        if part == "graphql" and scope["type"] == "websocket":
            await app(scope, _messages_checked(receive, send, role), send)
            return
        if part == "graphql" and scope["method"] == "POST":
            body = await _whole_body(receive)
            if body is None:
                await refuse(scope, receive, send, 413, "The request is too long.")
                return
            fields = mutations_in_request(body, Headers(scope=scope).get("content-type", ""))
            if fields is None or not allowed(role, fields):
                await refuse(scope, receive, send, 403, "Your account may not do this.")
                return
            for field in sorted(fields - HARMLESS):
                await self._noted(session.name, field)
            receive = _again(body)
        elif part == "graphql" and scope["query_string"]:
            fields = mutations_in_query_string(scope["query_string"])
            if fields is None or not allowed(role, fields):
                await refuse(scope, receive, send, 403, "Your account may not do this.")
                return
        await app(scope, receive, send)


def allowed(role: Role, mutations: frozenset[str]) -> bool:
    """Return whether a role may carry out all these mutations."""
    may = _MAY[role]
    return may is None or mutations <= may


def mutations_in(document: str) -> frozenset[str] | None:
    """Return the mutations that a GraphQL document asks for, fragments included; None if it cannot be parsed."""
    try:
        tree = parse(document)
    except GraphQLError:
        return None
    fragments = {
        node.name.value: node.selection_set
        for node in tree.definitions
        if isinstance(node, FragmentDefinitionNode)
    }
    found: set[str] = set()
    seen: set[str] = set()

    def collect(selection: SelectionSetNode | None) -> None:
        for node in selection.selections if selection else ():
            if isinstance(node, FieldNode):
                found.add(node.name.value)
            elif isinstance(node, InlineFragmentNode):
                collect(node.selection_set)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                seen.add(node.name.value)
                collect(fragments.get(node.name.value))

    for node in tree.definitions:
        if isinstance(node, OperationDefinitionNode) and node.operation is OperationType.MUTATION:
            collect(node.selection_set)
    return frozenset(found)


def mutations_in_request(body: bytes, content_type: str) -> frozenset[str] | None:
    """Return the mutations of a POST request; None if it is not one that can be understood."""
    if content_type.split(";", 1)[0].strip().lower() != "application/json":
        return None
    try:
        given = json.loads(body)
    except ValueError:
        return None
    return _mutations_of(given)


def mutations_in_query_string(query: bytes) -> frozenset[str] | None:
    """Return the mutations of a GET request."""
    documents = parse_qs(query.decode("latin-1")).get("query", [])
    found: frozenset[str] = frozenset()
    for document in documents:
        some = mutations_in(document)
        if some is None:
            return None
        found |= some
    return found


def _mutations_of(given: Any) -> frozenset[str] | None:
    if isinstance(given, list):
        parts = [_mutations_of(one) for one in given]
        if not parts or any(part is None for part in parts):
            return None
        return frozenset().union(*(part for part in parts if part is not None))
    if not isinstance(given, dict) or not isinstance(given.get("query"), str):
        return None
    return mutations_in(given["query"])


async def _whole_body(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > _LONGEST_REQUEST:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes) -> Receive:
    """Return a receive function that gives a body once more."""
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            return {"type": "http.disconnect"}
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _messages_checked(receive: Receive, send: Send, role: Role) -> Receive:
    """End a websocket over which a mutation comes that the role may not carry out; subscriptions pass."""

    async def checked() -> Message:
        message = await receive()
        if message["type"] != "websocket.receive":
            return message
        text = message.get("text") or (message.get("bytes") or b"").decode("utf-8", "replace")
        try:
            payload = json.loads(text).get("payload")
        except (ValueError, AttributeError):
            payload = None
        if isinstance(payload, dict) and "query" in payload:
            fields = _mutations_of(payload)
            if fields is None or fields - HARMLESS:
                await send({"type": "websocket.close", "code": 1008})
                return {"type": "websocket.disconnect", "code": 1008}
        return message

    return checked


def _without_pictures(send: Send) -> Send:
    """Blank pictures in answers: older versions could put face crops into metadata."""
    start: Message | None = None
    body = bytearray()
    textual = False

    async def filtered(message: Message) -> None:
        nonlocal start, textual
        if message["type"] == "websocket.send":
            if message.get("text"):
                message = {**message, "text": _PICTURE.sub(b"data:,", message["text"].encode()).decode()}
            await send(message)
        elif message["type"] == "http.response.start":
            kind = Headers(raw=message["headers"]).get("content-type", "")
            textual = kind.startswith("application/json")
            if textual:
                start = message
            else:
                await send(message)
        elif message["type"] == "http.response.body" and textual and start is not None:
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                clean = _PICTURE.sub(b"data:,", bytes(body))
                MutableHeaders(scope=start)["content-length"] = str(len(clean))
                await send(start)
                await send({"type": "http.response.body", "body": clean, "more_body": False})
        else:
            await send(message)

    return filtered
