"""The rules of ``iss_assets.checks`` as asset checks."""
