"""Patients' rights: who looked at what, and what leaves the home."""
