"""Tests of what is measured from stored rows of a video."""
