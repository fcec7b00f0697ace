"""Alerts: what is reported to whom and when, the outbox, and sending."""
