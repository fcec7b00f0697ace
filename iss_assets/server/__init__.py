"""The web application: sign-in, the review desk, the pages, and Dagster behind it."""
