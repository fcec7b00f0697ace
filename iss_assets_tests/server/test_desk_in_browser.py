"""The desk as its users meet it: Chromium, keys, a phone's width, and what a screen reader needs."""

from __future__ import annotations

import csv
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import av
import axe_core_python
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect, sync_playwright

from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.server.accounts import Accounts, Role
from iss_assets.server.application import DagsterApps, build_application
from iss_assets.server.previews import Previews
from iss_assets.settings import ServerSettings, Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.media.films import write_film
from iss_assets_tests.reports.browser import BROWSER, NO_BROWSER
from iss_assets_tests.server.invented_study import FLAGS, make_study
from iss_assets_tests.server.test_security import CHEAP, PASSWORDS, probe

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if BROWSER is None:
        if os.environ.get("CI"):
            pytest.fail(f"{NO_BROWSER}, and in CI no test is skipped for that")
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """Serve the application for real; Dagster's part is a probe."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    # whoever comes before the server's thread waits
    listening.listen()
    port = listening.getsockname()[1]
    settings = settings.model_copy(update={"server": ServerSettings(port=port)})
    previews = Previews(settings.video)
    previews.warm_up()
    apps = DagsterApps(probe("full"), probe("read-only"))
    application = build_application(settings, apps, lambda secret: None, previews)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{port}"
    finally:
        server.should_exit = True
        thread.join(60)
        previews.close()


@pytest.fixture
def address(settings: Settings, empty_warehouse: Path) -> Iterator[str]:
    settings.home.mkdir(exist_ok=True)
    make_study(settings, empty_warehouse)
    accounts = Accounts(settings.accounts_path, CHEAP)
    for role in Role:
        accounts.add(role.value, role, PASSWORDS[role.value])
    with served(settings) as found:
        yield found


@contextmanager
def signed_in(
    browser: Browser,
    address: str,
    role: str,
    width: int = 1280,
    allowed: str = "nothing",
    timezone: str | None = None,
) -> Iterator[Page]:
    """Open a window in which only what is allowed goes wrong: no script's error, nothing that the page's policy forbids."""
    page = browser.new_context(viewport={"width": width, "height": 800}, timezone_id=timezone).new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{address}/sign-in")
    expect(page.locator("#name")).to_be_focused()
    page.keyboard.type(role)
    page.keyboard.press("Tab")
    expect(page.locator("#password")).to_be_focused()
    page.keyboard.type(PASSWORDS[role])
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/")
    try:
        yield page
    finally:
        page.context.close()
    assert [text for text in wrong if allowed not in text] == []


@pytest.mark.slow
def test_ten_flags_are_reviewed_with_the_keyboard_alone(
    browser: Browser, address: str, settings: Settings
) -> None:
    keys = {True: "a", False: "r"}
    expected: list[tuple[str, str, str]] = []
    with signed_in(browser, address, "coordinator") as page:
        page.goto(f"{address}/review")
        expect(page.locator("#queue-count")).to_contain_text("5 videos to watch")
        page.keyboard.press("n")
        for _ in range(5):
            expect(page.locator("li[data-flag][data-current]")).to_have_count(1)
            video = page.locator("#player").get_attribute("data-video") or ""
            waiting = page.locator('li[data-open="1"]').count()
            assert waiting == len(FLAGS[video])
            for left in range(waiting - 1, -1, -1):
                current = page.locator("li[data-flag][data-current]")
                flag = current.get_attribute("data-flag") or ""
                accept = len(expected) % 2 == 0
                expected.append((video, flag, "confirm" if accept else "reject"))
                page.keyboard.press(keys[accept])
                expect(page.locator(f'li[data-flag="{flag}"]')).to_have_attribute("data-open", "0")
                expect(page.locator("#status")).to_contain_text("accepted" if accept else "rejected")
                expect(page.locator('li[data-open="1"]')).to_have_count(left)
            expect(page.locator("#status")).to_contain_text("Every flag of this video is reviewed")
            if len(expected) < 10:
                page.keyboard.press("n")
                expect(page.locator("#player")).not_to_have_attribute("data-video", video)
        expect(page.locator("#next-video")).to_have_count(0)
        page.goto(f"{address}/review")
        expect(page.locator("main")).to_contain_text("Every flag has been reviewed")
    rows = list(csv.DictReader((settings.study / "reviews.csv").read_text().splitlines()))
    assert [(r["video_id"], r["flag"], r["decision"]) for r in rows] == expected
    assert sorted((video, flag) for video, flag, _ in expected) == sorted(
        (video, flag) for video, own in FLAGS.items() for flag in own
    )
    assert {r["reviewer"] for r in rows} == {"coordinator"}


def wait_until(page: Page, holds: str) -> None:
    """Wait until an expression about the page's parts is true; the page's policy forbids Playwright's own way."""
    began = time.monotonic()
    while not page.evaluate(f"() => {holds}"):
        assert time.monotonic() - began < 20, holds
        page.wait_for_timeout(20)


def test_a_video_plays_from_the_flagged_second_and_keys_move_in_it(
    browser: Browser, address: str, settings: Settings
) -> None:
    with signed_in(browser, address, "coordinator") as page:
        page.goto(f"{address}/review/0007-01", wait_until="domcontentloaded")
        wait_until(page, 'document.getElementById("player").currentTime > 0.2')
        assert "from=2" in page.evaluate("() => document.getElementById('player').src")
        wait_until(page, 'Number(document.getElementById("track").getAttribute("aria-valuenow")) >= 2.2')
        page.keyboard.press("Space")
        wait_until(page, 'document.getElementById("player").paused')
        expect(page.locator("#play")).to_have_text("Play")
        stopped = page.evaluate("() => document.getElementById('player').currentTime")
        assert stopped < 1.9  # it has not come to its end by itself
        page.keyboard.press("Space")
        wait_until(page, f'document.getElementById("player").currentTime > {stopped}')
        expect(page.locator("#play")).to_have_text("Pause")
        wait_until(
            page, 'document.getElementById("player").ended && document.getElementById("player").paused'
        )
        page.keyboard.press("Shift+ArrowLeft")
        wait_until(page, 'Number(document.getElementById("track").getAttribute("aria-valuenow")) < 1')
        page.keyboard.press("ArrowRight")
        wait_until(page, 'Math.abs(document.getElementById("track").getAttribute("aria-valuenow") - 1) < 0.3')
        first = page.locator("li[data-current]").get_attribute("data-flag")
        page.keyboard.press("j")
        expect(page.locator("li[data-current]")).not_to_have_attribute("data-flag", first or "")
        wait_until(page, 'Number(document.getElementById("track").getAttribute("aria-valuenow")) >= 2')
        page.keyboard.press("k")
        expect(page.locator("li[data-current]")).to_have_attribute("data-flag", first or "")
        # a click in the timeline's first tenth
        box = page.locator("#track").bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] * 0.1, box["y"] + 20)
        wait_until(page, 'Number(document.getElementById("track").getAttribute("aria-valuenow")) < 1.5')
        page.keyboard.press("?")
        expect(page.locator("#keys")).to_be_visible()
        page.keyboard.press("a")  # while the keys are shown it decides nothing
        page.keyboard.press("Escape")
        page.locator("#reason").focus()
        page.keyboard.type("a r n space?")  # these are letters of a reason
        assert page.locator("#reason").input_value() == "a r n space?"
        page.keyboard.press("Enter")
        expect(page.locator("#panel")).to_contain_text("Excluded by coordinator")
    rows = list(csv.DictReader((settings.study / "reviews.csv").read_text().splitlines()))
    assert [(r["decision"], r["reason"]) for r in rows] == [("exclude", "a r n space?")]
    views = [line for line in AuditLog(settings.audit_path).lines() if line.action == Action.MEDIA_VIEWED]
    assert views and {v.subject for v in views} == {"0007-01"}


CORNERS = """(() => {
  const player = document.getElementById("player"), canvas = document.createElement("canvas");
  const [wide, tall] = [canvas.width, canvas.height] = [player.videoWidth, player.videoHeight], pen = canvas.getContext("2d");
  pen.drawImage(player, 0, 0);
  return [[0.15, 0.15], [0.85, 0.15], [0.15, 0.85], [0.85, 0.85]].map(
    ([x, y]) => [...pen.getImageData(Math.round(x * wide), Math.round(y * tall), 1, 1).data.slice(0, 3)]);
})()"""
"""The colors that the player shows near its corners: top left, top right, bottom left, bottom right."""
SHOWN = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (190, 190, 190))


def upright_picture(wide: int, tall: int) -> NDArray[np.uint8]:
    """Return a picture whose four quarters have the colors of `SHOWN`."""
    picture = np.empty((tall, wide, 3), np.uint8)
    for number, color in enumerate(SHOWN):
        down, right = divmod(number, 2)
        picture[down * tall // 2 : (down + 1) * tall // 2, right * wide // 2 : (right + 1) * wide // 2] = (
            color
        )
    return picture


UNPLAYABLE = {
    "0007-01": (".mp4", "libx265", 0, False),
    "0007-02": (".mpg", "mpeg1video", 0, False),
    "0008-01": (".avi", "mpeg4", 0, False),
    "0008-02": (".mp4", "libx264", 90, False),
    "0009-01": (".mov", "libx265", 270, False),
    "0009-02": (".mp4", "libx264", 180, True),
}
"""Videos as phones and converters make them: suffix, encoder, degrees that players turn it by, mirrored or not."""


@pytest.mark.slow
def test_what_browsers_cannot_play_plays_at_the_desk_and_the_right_way_up(
    browser: Browser, address: str, settings: Settings
) -> None:
    if missing := {codec for _, codec, _, _ in UNPLAYABLE.values()} - av.codecs_available:
        pytest.skip(f"this machine's FFmpeg cannot encode {', '.join(sorted(missing))}")
    shown = upright_picture(160, 240)
    rows = []
    for video, (suffix, codec, rotation, mirrored) in UNPLAYABLE.items():
        stored = np.rot90(shown, -rotation // 90)
        pictures = [stored[:, ::-1] if mirrored else stored] * 40
        file = settings.study / "videos" / video[:4] / f"{video}{suffix}"
        write_film(file, pictures, codec=codec, rotation=rotation, mirrored=mirrored)
        rows.append((f"videos/{video[:4]}/{file.name}", hashlib.sha256(file.read_bytes()).hexdigest(), video))
    with Warehouse(settings.warehouse_path).write() as writer:
        writer.execute("update video_quality set moments = '{}'")
        for row in rows:
            writer.execute("update videos set file = ?, sha256 = ? where video_id = ?", row)
    with signed_in(browser, address, "coordinator") as page:
        for video, how in UNPLAYABLE.items():
            page.goto(f"{address}/review/{video}", wait_until="domcontentloaded")
            wait_until(page, 'document.getElementById("player").currentTime > 0.5')
            assert page.evaluate("() => [player.videoWidth, player.videoHeight]") == [160, 240], how
            for color, expected in zip(page.evaluate(f"() => {CORNERS}"), SHOWN, strict=True):
                assert np.abs(np.subtract(color, expected)).max() < 40, (how, color, expected)
            # and it goes on to its end
            wait_until(page, 'document.getElementById("player").ended')
            assert page.evaluate("() => player.currentTime") == pytest.approx(1.6, abs=0.2), how


@pytest.mark.slow
def test_the_face_box_and_the_mesh_are_drawn_over_the_face(browser: Browser, address: str) -> None:
    drawn = (
        "(() => { const c = document.getElementById('overlay'); const all = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < all.length; i += 4) n += all[i] > 0;"
        " return n; })()"
    )
    with signed_in(browser, address, "coordinator") as page:
        page.goto(f"{address}/review/0007-01", wait_until="domcontentloaded")
        wait_until(page, f"{drawn} > 100")
        page.keyboard.press("o")
        wait_until(page, f"{drawn} === 0")
        page.evaluate("() => document.getElementById('player').pause()")
        page.check("#show-mesh")
        page.keyboard.press("Shift+ArrowLeft")
        wait_until(page, "document.getElementById('player').readyState >= 2")
        page.keyboard.press("ArrowRight")
        wait_until(page, f"{drawn} > 0")


def test_pages_fit_a_phone_and_have_no_serious_accessibility_findings(browser: Browser, address: str) -> None:
    paths = ["/", "/patients", "/patients/0007", "/review", "/review/0007-01", "/audit", "/accounts"]
    with signed_in(browser, address, "admin", width=390) as page:
        for path in paths:
            page.goto(address + path)
            if path.startswith("/review/"):
                expect(page.locator(".lane")).to_have_count(3 + 4)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= 390, path
            page.evaluate(f"() => {{ {AXE} }}")
            found = page.evaluate("() => axe.run(document)")
            serious = [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")]
            assert serious == [], path
            assert found["passes"]
            page.keyboard.press("Tab")
            expect(page.locator(":focus")).to_have_text("Skip to content")


@pytest.mark.parametrize("timezone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_a_contact_is_today_where_the_reviewer_is(
    browser: Browser, address: str, settings: Settings, timezone: str
) -> None:
    # 14 hours before and 11 after UTC: at any moment at least one of them has another day than UTC
    with signed_in(browser, address, "coordinator", timezone=timezone) as page:
        page.goto(f"{address}/review/0009-02", wait_until="domcontentloaded")
        before = datetime.now(ZoneInfo(timezone)).date()
        field = page.locator("#contacted-on")
        expect(field).not_to_have_value("")
        given = date.fromisoformat(field.input_value())
        assert before <= given <= datetime.now(ZoneInfo(timezone)).date()
        page.get_by_role("button", name="Record contact").click()
        expect(page.locator("#panel")).to_contain_text(f"Contacted on {given} (coordinator)")
        expect(field).to_have_value(given.isoformat())  # for the next one, too
        field.fill((datetime.now(UTC).date() + timedelta(days=2)).isoformat())
        assert page.evaluate("() => document.getElementById('contacted-on').validity.rangeOverflow")
    rows = list(csv.DictReader((settings.study / "reviews.csv").read_text().splitlines()))
    assert [row["contacted_on"] for row in rows] == [given.isoformat()]


def test_a_decision_that_cannot_be_recorded_is_said_on_the_page(
    browser: Browser, address: str, settings: Settings
) -> None:
    with signed_in(browser, address, "coordinator", allowed="409 (Conflict)") as page:
        page.goto(f"{address}/review/0008-02", wait_until="domcontentloaded")
        expect(page.locator("li[data-current]")).to_have_count(1)
        (settings.study / "reviews.csv").write_text("something,else\n")
        page.keyboard.press("a")
        expect(page.locator("#trouble")).to_contain_text("Not recorded: reviews.csv lacks columns")
        expect(page.locator('li[data-open="1"]')).to_have_count(1)
