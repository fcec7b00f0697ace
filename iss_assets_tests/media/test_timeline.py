"""One clock per video: whatever a file does to its times, picture and sound say the same second.

Every video here encodes its source second in picture and sound, so the right answer is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from iss_assets.media import container
from iss_assets.media.container import _open
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.video import probe
from iss_assets.settings import VideoSettings
from iss_assets_tests.media.clocks import FPS, Played, edit, frames, write_marked

COARSE = 0.1
"""Seconds; AAC in a container that cannot say so begins 64 ms late at 16 kHz, and edits cut whole packets."""


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".ts"])
def test_an_ordinary_film_is_its_own_clock(tmp_path: Path, suffix: str) -> None:
    film = Played(write_marked(tmp_path / f"a{suffix}", frames(0, 5), [(0, 5, 0)]))
    film.agrees(5, lambda t: t, lambda t: t)
    assert film.problems == ""
    assert film.info.source_fps == pytest.approx(FPS, rel=1e-6)
    assert film.times == pytest.approx([source for _, source in film.samples], abs=1e-3)


@pytest.mark.parametrize("start", [1000.0, 47721.0, 95440.0])
@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_a_clock_that_starts_anywhere_counts_from_the_first_picture(
    tmp_path: Path, suffix: str, start: float
) -> None:
    # the clock of a transport stream starts again after 95443.7 s, which the last one reaches on its way
    film = Played(write_marked(tmp_path / f"a{suffix}", frames(0, 6, start), [(0, 6, start)]))
    film.agrees(6, lambda t: t, lambda t: t)
    assert film.problems == ""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_sound_before_the_first_picture_is_left_out(tmp_path: Path, suffix: str) -> None:
    film = Played(write_marked(tmp_path / f"a{suffix}", frames(1.52, 6), [(0, 6, 0)]))
    film.agrees(4.48, lambda t: t + 1.52, lambda t: t + 1.52)
    assert re.search(r"1\.[56] s of sound before the first picture were left out", film.problems)


def test_a_late_picture_in_asf_is_no_file_that_breaks_off(tmp_path: Path) -> None:
    path = write_marked(
        tmp_path / "a.wmv", frames(2, 6), [(0, 6, 0)], codec="wmv2", sound_codec="libmp3lame", muxing={}
    )
    assert "breaks off" not in Played(path).problems


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_sound_that_starts_late_comes_when_it_should(tmp_path: Path, suffix: str) -> None:
    film = Played(write_marked(tmp_path / f"a{suffix}", frames(0, 6), [(1.3, 6, 1.3)]))
    film.agrees(6, lambda t: t, lambda t: t if t > 1.3 else None)
    assert re.search(r"1\.[23] s without sound data", film.problems)


def test_the_end_of_an_edit_list_is_the_end_and_its_start_the_start(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mp4", frames(0, 8), [(0, 8, 0)])
    # what an editor does: the data stay, picture and sound are shown from 2.6 s on, for 3 s
    base, delay = _bases(path)
    edit(path, 0, [(3000, round(2.6 * base["video"]) - delay)])
    edit(path, 1, [(3000, round(2.6 * base["audio"]) + 1024)])
    film = Played(path)
    film.agrees(3, lambda t: t + 2.6, lambda t: t + 2.6)
    assert film.info.source_fps == pytest.approx(FPS, rel=0.01)
    assert film.problems == ""


def test_edit_lists_of_picture_and_sound_may_differ(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mp4", frames(0, 8), [(0, 8, 0)])
    base, delay = _bases(path)
    edit(path, 0, [(5000, round(2.0 * base["video"]) - delay)])
    edit(path, 1, [(4000, round(3.0 * base["audio"]) + 1024)])
    film = Played(path)
    film.agrees(5, lambda t: t + 2.0, lambda t: t + 3.0 if t < 4 else None)


def _edited(
    path: Path,
    entries: list[tuple[float, ...]],
    sound: list[tuple[float, ...]] | None = None,
    wide: bool = False,
) -> Played:
    """Cut a film of 8 s by edits of (seconds, media second or -1, speed); picture and sound alike by default."""
    write_marked(path, frames(0, 8), [(0, 8, 0)], options={"bf": "0", "g": "50", "crf": "14"})
    base, delay = _bases(path)
    for track, kind, offset, edits in (
        (0, "video", -delay, entries),
        (1, "audio", 1024, entries if sound is None else sound),
    ):
        rows = [(1000 * e[0], -1 if e[1] < 0 else round(e[1] * base[kind]) + offset, *e[2:]) for e in edits]
        edit(path, track, rows, wide)
    return Played(path)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("first, second", [(1.0, 4.4), (4.4, 1.0), (1.4, 1.4)])
def test_segments_of_an_edit_list_follow_each_other(
    tmp_path: Path, first: float, second: float, wide: bool
) -> None:
    # in order, out of order, twice the same; not on key frames, which come every 2 s
    film = _edited(tmp_path / "a.mp4", [(2, first), (3, second)], wide=wide)
    film.agrees(
        5,
        lambda t: t + first if t < 2 - 1e-3 else t - 2 + second,
        lambda t: t + (first if t < 2 else second - 2),
        sound_off_s=COARSE,
    )
    assert film.problems == ""


def test_an_empty_edit_midway_holds_the_picture_and_is_silent(tmp_path: Path) -> None:
    film = _edited(tmp_path / "a.mp4", [(2, 1.4), (2, -1), (2, 5)])

    def source(t: float) -> float:
        return t + 1.4 if t < 2 else 3.36 if t < 4 - 1e-3 else t + 1

    film.agrees(6, source, lambda t: None if 2 <= t < 4 else source(t), ahead_s=0.045, sound_off_s=COARSE)


def test_an_empty_edit_longer_than_a_pause_is_cut_out(tmp_path: Path) -> None:
    film = _edited(tmp_path / "a.mp4", [(2.42, 1.4), (25, -1), (2, 5)])
    # the cut begins where the last packet of sound ends, and no sample is that near
    film.agrees(
        4.45,
        lambda t: t + (1.4 if t < 2.45 else 2.55),
        lambda t: t + (1.4 if t < 2.45 else 2.55),
        step_s=0.1,
        ahead_s=0.05,
        sound_off_s=COARSE,
    )
    assert "a pause of 25 s at 2.4 s was cut" in film.problems.lower()


def test_a_picture_that_an_edit_list_holds_is_held_to_its_end(tmp_path: Path) -> None:
    film = _edited(tmp_path / "a.mp4", [(2, 1), (3, 3, 0)], [(5, 1)])
    film.agrees(5, lambda t: t + 1 if t < 2 else 3.0, lambda t: t + 1, ahead_s=0.001, sound_off_s=COARSE)


def test_pictures_held_one_after_the_other_end_with_the_last_edit(tmp_path: Path) -> None:
    film = _edited(tmp_path / "a.mp4", [(1.5, 4, 0), (2.5, 1, 0), (0.5, 6, 0), (1, -1)])
    film.agrees(4.5, lambda t: 4.0 if t < 1.5 - 1e-3 else 1.0 if t < 4 - 1e-3 else 6.0)


def test_the_sound_of_the_last_segment_ends_with_it(tmp_path: Path) -> None:
    # 2 s of the media lie before the last segment and are heard nowhere
    film = _edited(tmp_path / "a.mp4", [(1, 0.4), (1, -1), (30, 4)])
    film.agrees(
        6, lambda t: t + 0.4 if t < 1 else min(1.36, t + 0.4) if t < 2 - 1e-3 else t + 2, ahead_s=0.05
    )
    assert "held" not in film.problems


def test_another_speed_of_an_edit_list_is_said(tmp_path: Path) -> None:
    assert "asks for another speed" in _edited(tmp_path / "a.mp4", [(2, 1, 2)]).problems
    assert "speed" not in _edited(tmp_path / "b.mp4", [(2, 1, 1)]).problems


@pytest.mark.parametrize("entry", [(0, 3.0), (3, 50.0)])
def test_an_edit_list_that_hides_every_picture_is_not_followed(
    tmp_path: Path, entry: tuple[float, float]
) -> None:
    film = _edited(tmp_path / "a.mp4", [entry])
    film.agrees(8, lambda t: t, lambda t: t, sound_off_s=COARSE)
    assert "edit list would hide every picture" in film.problems


def test_pictures_before_the_first_key_frame_are_not_on_the_clock(tmp_path: Path) -> None:
    whole = write_marked(tmp_path / "whole.ts", frames(0, 8), [(0, 8, 0)])
    cut = tmp_path / "cut.ts"
    _copy(whole, cut, lambda packet: packet.pts * packet.time_base > 3.5)
    film = Played(cut)
    first = film.samples[0][1]
    assert first == 4.0  # a key frame comes every two seconds, and the one at 2.0 is gone
    film.agrees(4, lambda t: t + 4, lambda t: t + 4)
    assert "have no picture that can be decoded" in film.problems


def test_an_open_group_of_pictures_begins_where_pictures_can_be_decoded(tmp_path: Path) -> None:
    options = {"crf": "14", "bf": "3", "g": "50", "sc_threshold": "0", "x264-params": "open-gop=1:scenecut=0"}
    whole = write_marked(tmp_path / "whole.ts", frames(0, 8), [(0, 8, 0)], options=options)
    cut = tmp_path / "cut.ts"
    _copy(whole, cut, lambda packet: packet.pts * packet.time_base > 4.0)
    film = Played(cut)
    first = film.samples[0][1]
    assert 3.8 <= first <= 4.2
    film.agrees(8 - first, lambda t: t + first, lambda t: t + first)


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_a_long_pause_of_the_recorder_is_cut_out_of_both(tmp_path: Path, suffix: str) -> None:
    pictures = frames(0, 3) + frames(3, 6, 63)
    film = Played(write_marked(tmp_path / f"a{suffix}", pictures, [(0, 3, 0), (3, 6, 63)]))
    film.agrees(6, lambda t: t, lambda t: t)
    assert "a pause of 60 s at 3.0 s was cut out" in film.problems.lower()
    assert [round(c.length_s) for c in film.timeline.cuts] == [60]


@pytest.mark.parametrize(
    ("suffix", "codec", "sound_codec"),
    [
        (".webm", "libvpx", "libopus"),
        (".3gp", "mpeg4", "aac"),
        (".flv", "libx264", "aac"),
        (".ts", "libx265", "aac"),
    ],
)
def test_a_late_picture_and_a_pause_mean_the_same_in_every_container(
    tmp_path: Path, suffix: str, codec: str, sound_codec: str
) -> None:
    path = write_marked(
        tmp_path / f"a{suffix}",
        frames(1.52, 3) + frames(3, 6, 63),
        [(0, 3, 0), (3, 6, 63)],
        codec=codec,
        sound_codec=sound_codec,
        options={"x265-params": "log-level=none"} if codec == "libx265" else None,
    )
    film = Played(path)
    film.agrees(4.48, lambda t: t + 1.52, lambda t: t + 1.52, step_s=0.1, sound_off_s=0.15)
    assert len(film.timeline.cuts) == 1


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_a_short_pause_of_the_recorder_is_kept_in_both(tmp_path: Path, suffix: str) -> None:
    pictures = frames(0, 3) + frames(3, 6, 8)
    path = write_marked(tmp_path / f"a{suffix}", pictures, [(0, 3, 0), (3, 6, 8)])

    def source(t: float) -> float:
        return t if t < 3 else max(2.96, t - 5)

    film = Played(path)
    film.agrees(11, source, lambda t: t if t < 3 else t - 5 if t > 8 else None, step_s=5.1)
    assert [s for m, s in film.samples if 3 <= m < 8] == [2.96] * 50
    assert dict(film.samples)[8.2] == pytest.approx(3.2, abs=1e-6)
    assert "picture and sound pause for 5.0 s" in film.problems.lower()
    assert film.tables is not None
    assert film.tables.audio["inserted_silence_s"][0].as_py() == pytest.approx(0, abs=0.15)
    cut = Played(path, VideoSettings(longest_pause_s=4))
    cut.agrees(6, lambda t: t, lambda t: t)


def test_two_pauses_are_cut_each_at_its_place(tmp_path: Path) -> None:
    pictures = frames(0, 2) + frames(2, 4, 32) + frames(4, 6, 99)
    film = Played(write_marked(tmp_path / "a.mkv", pictures, [(0, 2, 0), (2, 4, 32), (4, 6, 99)]))
    film.agrees(6, lambda t: t, lambda t: t)
    assert [round(c.at_s) for c in film.timeline.cuts] == [2, 4]


def test_a_pause_that_ends_at_different_times_keeps_both_in_step(tmp_path: Path) -> None:
    # the microphone is back 0.4 s before the camera
    pictures = frames(0, 3) + frames(3.4, 6.4, 63.4)
    film = Played(write_marked(tmp_path / "a.mkv", pictures, [(0, 3, 0), (3, 6.4, 63)]))
    film.agrees(6.4, lambda t: t, lambda t: t, step_s=0.45)


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_a_gap_of_the_picture_alone_is_held_however_long(tmp_path: Path, suffix: str) -> None:
    pictures = frames(0, 3) + frames(15, 18)
    film = Played(write_marked(tmp_path / f"a{suffix}", pictures, [(0, 18, 0)]))
    film.agrees(18, lambda t: t if t < 3 or t >= 15 else 2.96, lambda t: t, step_s=0.05)
    assert "no picture comes for 12.0 s" in film.problems.lower()


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_a_gap_of_the_sound_alone_is_silent_however_long(tmp_path: Path, suffix: str) -> None:
    film = Played(write_marked(tmp_path / f"a{suffix}", frames(0, 18), [(0, 3, 0), (15, 18, 15)]))
    film.agrees(18, lambda t: t, lambda t: t if t < 3 or t > 15 else None, sound_off_s=COARSE)
    assert "without sound data were filled with silence" in film.problems


def test_a_gap_of_a_silent_film_counts_as_a_pause(tmp_path: Path) -> None:
    long = Played(write_marked(tmp_path / "a.mkv", frames(0, 3) + frames(3, 6, 63)))
    long.agrees(6, lambda t: t)
    short = Played(write_marked(tmp_path / "b.mkv", frames(0, 3) + frames(3, 6, 8)))
    assert short.info.duration_s == pytest.approx(11, abs=0.05)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_pictures_without_times_are_counted_as_they_are_shown(tmp_path: Path, codec: str) -> None:
    options = None if codec == "libx264" else {"bf": "2", "g": "50"}
    path = write_marked(
        tmp_path / "a.avi",
        [(n, n / 15) for n in range(90)],
        [(0, 6, 0)],
        codec=codec,
        options=options,
        fps=15,
    )
    film = Played(path, fps=15)
    film.agrees(6, lambda t: t, lambda t: t, step_s=1 / 15)
    # for MPEG-4, FFmpeg reads the order from the pictures
    assert ("timed by their order" in film.problems) == (codec == "libx264")
    assert len({source for _, source in film.samples}) == 60


def test_a_lost_picture_among_those_without_times_moves_no_other(tmp_path: Path) -> None:
    path = write_marked(
        tmp_path / "a.avi",
        [(n, n / 15) for n in range(90)],
        fps=15,
        options={"crf": "14", "bf": "3", "g": "30", "sc_threshold": "0"},
    )
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        lost = [p for p in container.demux(video=0) if p.size][40]
    assert lost.pos is not None
    data[lost.pos + 6 : lost.pos + lost.size] = b"\xff" * (lost.size - 6)  # its start code stays
    path.write_bytes(bytes(data))
    film = Played(path, fps=15)
    late = [(m, s) for m, s in film.samples if m >= 4.1]
    assert len(late) >= 19
    assert all(-1e-3 <= m - s < 1 / 15 + 1e-3 for m, s in late), late


def test_the_last_picture_is_held_as_long_as_the_file_says(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mp4", [*frames(0, 3), (75, 3.0), (75, 9.0)])
    # the last picture repeats the one before, which was shown for six seconds
    film = Played(path)
    film.agrees(9.04, lambda t: min(t, 3.0), step_s=0.05)
    assert "held" in film.problems


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("sounds", [(), [(0, 3, 0)]], ids=["silent", "sound ends first"])
def test_the_last_picture_is_held_beyond_the_longest_pause(
    tmp_path: Path, suffix: str, sounds: list[tuple[float, float, float]]
) -> None:
    def lengthen(kind: str, number: int, packet: Any) -> bool:
        if kind == "picture" and float(packet.pts * packet.time_base) > 2.95:
            packet.duration = round(17 / packet.time_base)
        return True

    path = write_marked(
        tmp_path / f"a{suffix}", frames(0, 3), sounds, options={"bf": "0", "crf": "14"}, keep=lengthen
    )
    film = Played(path)
    film.agrees(19.96, lambda t: min(t, 2.96), step_s=0.05)
    assert "cut" not in film.problems


def test_the_last_picture_is_held_while_the_sound_continues(tmp_path: Path) -> None:
    film = Played(write_marked(tmp_path / "a.mkv", frames(0, 3), [(0, 9, 0)]))
    film.agrees(9, lambda t: min(t, 2.96), lambda t: t, step_s=0.05)
    assert "held for the last 6.0 s" in film.problems


def test_sound_that_ends_first_leaves_the_duration_alone(tmp_path: Path) -> None:
    film = Played(write_marked(tmp_path / "a.mkv", frames(0, 6), [(0, 2, 0)]))
    film.agrees(6, lambda t: t)
    assert len(film.sound) / film.rate == pytest.approx(2, abs=0.05)


def test_a_clock_that_starts_again_in_both_is_one_film(tmp_path: Path) -> None:
    parts = [
        write_marked(tmp_path / f"{n}.ts", frames(3 * n, 3 * n + 3, 0), [(3 * n, 3 * n + 3, 0)])
        for n in range(3)
    ]
    film = Played(_joined(tmp_path / "a.ts", *parts))
    film.agrees(9, lambda t: t, _away_from(3.0, 6.0), step_s=0.25, sound_off_s=0.15, ahead_s=0.1)
    assert "starts again" in film.problems


@pytest.mark.parametrize("known", [2, 4])
@pytest.mark.parametrize("later_s", [0.0, 3.0, 64.0])
def test_a_stream_that_continues_under_other_numbers_is_one_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later_s: float, known: int
) -> None:
    one = write_marked(tmp_path / "1.ts", frames(0, 3), [(0, 3, 0)])
    two = write_marked(
        tmp_path / "2.ts", frames(3, 8, later_s), [(3, 8, later_s)], muxing={"mpegts_start_pid": "768"}
    )
    path = _joined(tmp_path / "a.ts", one, two)
    if known == 2:
        # in a file of usual size FFmpeg knows the first tracks only; here it has to be kept from looking farther
        few = {"probesize": "20000", "skip_estimate_duration_from_pts": "1"}
        monkeypatch.setattr(container, "_open", lambda path, start, **more: _open(path, start, **few, **more))
    assert len(container.open_container(path).streams) == known
    film = Played(path)
    film.agrees(8, lambda t: t, _away_from(3.0), step_s=0.15, sound_off_s=0.15, ahead_s=0.1)
    assert "continues with other tracks" in film.problems


@pytest.mark.parametrize("jump", [5000.0, 40.0, -2.5])
@pytest.mark.parametrize("kind", ["picture", "sound"])
def test_a_jump_of_one_clock_alone_is_repaired(tmp_path: Path, kind: str, jump: float) -> None:
    at = {"picture": 3.0, "sound": 3.0, kind: 3.0 + jump}
    one = write_marked(tmp_path / "1.ts", frames(0, 3), [(0, 3, 0)])
    two = write_marked(tmp_path / "2.ts", frames(3, 6, at["picture"]), [(3, 6, at["sound"])])
    film = Played(_joined(tmp_path / "a.ts", one, two))
    film.agrees(6, lambda t: t, _away_from(3.0), step_s=0.15, sound_off_s=0.15, ahead_s=0.1)
    assert "clock jumps once" in film.problems


def test_sound_of_an_unrelated_clock_begins_with_the_picture(tmp_path: Path) -> None:
    film = Played(write_marked(tmp_path / "a.mkv", frames(0, 5), [(0, 5, 700)]))
    film.agrees(5, lambda t: t, lambda t: t, sound_off_s=COARSE)
    assert "unrelated clocks" in film.problems


def test_a_variable_rate_shows_the_newest_picture_and_repeats_only_what_was_held(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    times = np.round(np.cumsum(rng.choice([0.02, 0.04, 0.07, 0.25], 120)), 3)
    times -= times[0]
    film = Played(write_marked(tmp_path / "a.mp4", list(enumerate(times.tolist())), [(0, times[-1], 0)]))
    for moment, source in film.samples:
        newest = int(np.flatnonzero(times <= moment + 1e-3)[-1])
        assert round(source * FPS) == newest, moment


def test_pictures_with_one_time_show_the_later_of_them(tmp_path: Path) -> None:
    def twice(kind: str, number: int, packet: av.Packet) -> bool:
        if kind == "picture" and packet.pts is not None:
            packet.pts -= packet.pts // 40 % 2 * 40
            packet.dts = packet.pts
        return True

    path = write_marked(tmp_path / "a.mkv", frames(0, 4), keep=twice, options={"bf": "0", "crf": "14"})
    film = Played(path)
    for moment, source in film.samples:
        assert -0.05 < moment - source < 0.09


def test_a_fragmented_film_with_a_pause_is_cut_like_any_other(tmp_path: Path) -> None:
    muxing = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    pictures = frames(0, 3) + frames(3, 6, 63)
    film = Played(write_marked(tmp_path / "a.mp4", pictures, [(0, 3, 0), (3, 6, 63)], muxing=muxing))
    film.agrees(6, lambda t: t, lambda t: t, sound_off_s=COARSE)


def test_a_film_that_breaks_off_ends_where_its_pictures_end(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mkv", frames(0, 10), [(0, 10, 0)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    film = Played(path)
    assert 4 < film.info.duration_s < 6
    film.agrees(film.info.duration_s, lambda t: t, lambda t: t, step_s=0.3)
    assert "breaks off" in film.problems


def test_a_film_longer_than_the_limit_has_the_limit_as_its_duration(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mkv", frames(0, 6), [(0, 6, 0)])
    film = Played(path, VideoSettings(max_seconds=2))
    assert film.info.duration_s == 2 and len(film.samples) == 20
    assert "Only the first 2 s were read" in film.problems


def test_a_film_of_which_nothing_can_be_decoded_is_unreadable(tmp_path: Path) -> None:
    whole = write_marked(tmp_path / "whole.ts", frames(0, 1.9), [(0, 1.9, 0)])
    cut = tmp_path / "cut.ts"
    _copy(whole, cut, lambda packet: not (packet.stream.type == "video" and packet.is_keyframe))
    with pytest.raises(UnreadableVideo) as error:
        probe(cut, VideoSettings())
    assert error.value.status == "unreadable"


def _copy(source: Path, target: Path, keep: Callable[[Any], bool]) -> None:
    """Copy the packets that `keep` wants, as they are."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = [new.add_stream_from_template(s) for s in old.streams]
        for packet in old.demux():
            if packet.size and keep(packet):
                packet.stream = streams[packet.stream_index]
                new.mux_one(packet)


def _bases(path: Path) -> tuple[dict[str, int], int]:
    """Return the time scale of each track of an mp4, and the first decoding time of its pictures."""
    with av.open(str(path)) as film:
        return (
            {s.type: int(1 / s.time_base) for s in film.streams},  # type: ignore[operator]
            min(p.dts for p in film.demux(video=0) if p.dts is not None),
        )


def _joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def _away_from(*places: float) -> Callable[[float], float]:
    """Return the source second of the sound, and None near these places, where it cannot be compared."""
    return lambda t: t if all(abs(t - p) > 0.3 for p in places) else -1e9
