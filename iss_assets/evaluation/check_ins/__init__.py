"""Answers that change from check-in to check-in: predictions, references, metrics, inference, and what may be claimed."""
