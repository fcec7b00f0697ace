"""Previews while they are made: processes that decode, bytes in memory, nothing on disk.

A preview is written into an anonymous file in memory (``memfd``), which is gone with the server. One process waits
ready, so that a preview starts at once; it decodes one video and ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

from iss_assets.settings import VideoSettings

MOST_AT_ONCE: Final = 2
"""Previews made at the same time; the one that was asked for first makes room."""
MOST_BYTES: Final = 400 * 2**20
"""Memory for previews, finished or not; the one used longest ago makes room. Three minutes take some 25 MB."""
LONGEST_S: Final = 900.0
"""A preview that takes longer is ended: a decoder that loops."""
_BLOCK: Final = 256 * 1024
_LOOK_S: Final = 0.05


@dataclass(eq=False)
class Preview:
    """One preview.

    Attributes
    ----------
    process : subprocess.Popen
        What makes it.
    handle : int
        The anonymous file.
    size : int
        Bytes written so far.
    done : bool
        Whether no more will come.
    problem : str
        What went wrong, for the person who watches.
    began : float
        When, on the monotonic clock.
    forgotten : bool
        Whether its bytes have been taken away, because the patient withdrew.
    """

    process: subprocess.Popen[bytes]
    handle: int
    size: int = 0
    done: bool = False
    problem: str = ""
    began: float = field(default_factory=time.monotonic)
    forgotten: bool = False

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the bytes from the beginning, waiting for those that are still being made."""
        place = 0
        while not self.forgotten:
            if place < self.size:
                block = os.pread(self.handle, min(_BLOCK, self.size - place), place)
                place += len(block)
                yield block
            elif self.done:
                return
            else:
                await anyio.sleep(_LOOK_S)

    def read(self, first: int, last: int) -> bytes:
        """Return a range of bytes, both ends included."""
        return os.pread(self.handle, last - first + 1, first)

    def end(self) -> None:
        """Stop making it."""
        if self.process.poll() is None:
            self.process.kill()

    def forget(self) -> None:
        """Stop making it, and give back its memory though somebody may still be watching."""
        self.forgotten = True
        self.end()
        os.ftruncate(self.handle, 0)


class Previews:
    """The previews of one server.

    Parameters
    ----------
    settings : VideoSettings
        Limits of decoding.
    command : sequence of str, optional
        For tests.
    """

    def __init__(self, settings: VideoSettings, command: tuple[str, ...] = ()) -> None:
        self._settings = settings
        self._command = command or (sys.executable, "-m", "iss_assets.media.preview")
        self._lock = threading.Lock()
        self._made: OrderedDict[tuple[str, float], Preview] = OrderedDict()
        self._spare: subprocess.Popen[bytes] | None = None

    def get(self, path: Path, content: str, begin_s: float) -> Preview:
        """Return the preview of a video from a second on; begin making it if it is not there.

        Parameters
        ----------
        path : Path
            The video.
        content : str
            Its SHA-256, so that a replaced file gets another preview.
        begin_s : float
            Second of the video's timeline.
        """
        key = (content, round(begin_s, 1))
        with self._lock:
            found = self._made.get(key)
            if found is not None and not found.problem:
                self._made.move_to_end(key)
                return found
            self._make_room()
            process = self._spare if self._spare is not None and self._spare.poll() is None else self._start()
            self._spare = None
            preview = Preview(process, os.memfd_create("preview", os.MFD_CLOEXEC))
            weakref.finalize(preview, os.close, preview.handle)
            self._made[key] = preview
        task = {"path": str(path), "begin_s": key[1], "settings": self._settings.model_dump(mode="json")}
        threading.Thread(target=self._fill, args=(preview, json.dumps(task).encode()), daemon=True).start()
        return preview

    def forget(self, is_gone: Callable[[str], bool]) -> None:
        """Forget the previews of videos whose content, by its SHA-256, is not to be shown any more."""
        with self._lock:
            for key in [key for key in self._made if is_gone(key[0])]:
                self._made.pop(key).forget()

    def warm_up(self) -> None:
        """Start the process that waits for the next preview."""
        with self._lock:
            if self._spare is None:
                self._spare = self._start()

    def close(self) -> None:
        """End every process and forget every preview."""
        with self._lock:
            if self._spare is not None:
                self._spare.kill()
                self._spare.wait()
            for preview in self._made.values():
                preview.end()
            self._made.clear()

    def _start(self) -> subprocess.Popen[bytes]:
        # it ends with this process: then its input ends, or its output cannot be written
        pipe = subprocess.PIPE
        return subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe)

    def _make_room(self) -> None:
        making = [key for key, preview in self._made.items() if not preview.done]
        for key in making[: max(0, len(making) - MOST_AT_ONCE + 1)]:
            self._drop(key)
        while self._made and sum(preview.size for preview in self._made.values()) > MOST_BYTES:
            self._drop(next(iter(self._made)))

    def _drop(self, key: tuple[str, float]) -> None:
        """Forget a preview. Its memory goes when the last request that streams it has ended."""
        self._made.pop(key).end()

    def _fill(self, preview: Preview, task: bytes) -> None:
        process = preview.process
        assert process.stdin and process.stdout and process.stderr
        timer = threading.Timer(LONGEST_S, preview.end)
        timer.start()
        try:
            process.stdin.write(task)
            process.stdin.close()
            while block := os.read(process.stdout.fileno(), _BLOCK):
                if preview.forgotten:
                    break
                os.pwrite(preview.handle, block, preview.size)
                preview.size += len(block)
            said = process.stderr.read(2000).decode("utf-8", "replace").strip().splitlines()
            if process.wait():
                preview.problem = (
                    said[-1] if said and process.returncode == 1 else "The video cannot be played."
                )
        except OSError as error:
            preview.problem = f"The preview broke off: {error.strerror}."
        finally:
            timer.cancel()
            preview.done = True
            self.warm_up()
