"""Alerts: which news is worth a message, the outbox, and sending."""
