"""OpenCV as this project uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def opencv_in_one_thread() -> Iterator[None]:
    """Limit OpenCV to one thread: its tasks here are too small to be split, and patients run side by side."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
