"""The certificate of a withdrawal can be read by people and programs, whatever the withdrawal found."""

from __future__ import annotations

from pathlib import Path

import pytest

from iss_assets.privacy.certificate import Certificate, read_certificates, write_certificate
from iss_assets_tests.reports.browser import in_frame


def certificate(found: list[str]) -> Certificate:
    return Certificate(
        withdrawal_id="c0ffee" * 5,
        patient="ab" * 32,
        scope="all",
        reason="a letter <b>of 3 March</b>",
        who="system:ana",
        asked_at="2026-03-04T10:00:00+00:00",
        finished_at="2026-03-04T10:01:00+00:00",
        rows={"faces": 1200},
        folds=[["forest_pain", 3]],
        source={"readable": True, "deleted": False, "files": 2, "rows": 3, "unread": []},
        copies=[
            {"at": "2026-03-01T10:00:00", "action": "exported", "who": "ana", "to": "/x" * 40, "purpose": ""}
        ],
        search={
            "files": 3,
            "bytes": 9,
            "tables": 2,
            "looked_for": {"patient id": 1},
            "found": found,
            "unread": [],
        },
        complete=not found,
    )


@pytest.mark.parametrize("found", [[], ["some.log"]])
def test_the_page_says_whether_anything_was_found_and_fits_a_phone(tmp_path: Path, found: list[str]) -> None:
    page = write_certificate(tmp_path, certificate(found))
    text = page.read_text("utf-8")
    assert ("found nothing of the patient" in text) is not bool(found)
    assert ("Not complete." in text) is bool(found) and ("some.log" in text) is bool(found)
    assert "&lt;b&gt;" in text and "<b>of" not in text
    script = "var r = view.document.documentElement; return [r.clientWidth, r.scrollWidth];"
    width, needed = in_frame(text, 390, script, tmp_path)
    assert needed <= width
    (read,) = read_certificates(tmp_path)
    assert read == certificate(found)


def test_sharing_has_a_certificate_too_although_nothing_is_searched(tmp_path: Path) -> None:
    shared = certificate([])
    shared.scope, shared.search, shared.source = "sharing", {}, {}
    text = write_certificate(tmp_path, shared).read_text("utf-8")
    assert "nothing was deleted" in text and "Removed." not in text


def test_certificates_that_end_within_a_second_are_read_in_the_order_in_which_they_ended(
    tmp_path: Path,
) -> None:
    """Ids are random, and so are the names of the files."""
    for number in (3, 1, 2):
        made = certificate([])
        made.withdrawal_id = f"{9 - number}" * 32
        made.reason, made.finished_at = str(number), f"2026-03-04T10:01:00.{number:06}+00:00"
        write_certificate(tmp_path, made)
    assert [read.reason for read in read_certificates(tmp_path)] == ["1", "2", "3"]


def test_what_is_left_on_a_database_server_makes_it_incomplete_and_is_named(tmp_path: Path) -> None:
    left = certificate([])
    left.server, left.complete = ["the write-ahead log; have the administrator run: grant <x>"], False
    text = write_certificate(tmp_path, left).read_text("utf-8")
    assert (
        "Not complete." in text
        and "The write-ahead log; have the administrator run: grant &lt;x&gt;." in text
    )
    assert left.remains == left.server
