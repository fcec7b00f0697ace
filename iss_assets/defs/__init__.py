"""Dagster and nothing else: assets, checks, jobs, sensors, schedules, resources, partitions."""
