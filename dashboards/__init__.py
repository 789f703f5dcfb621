"""Superset as code: configuration, set-up and the wall. Runs in its own environment (dashboards/.venv).

From the project's root: `dashboards/.venv/bin/python -m dashboards.provision`, then `dashboards/start.sh`.
This package imports no room of Medlake and none imports it; what they share is the serving file.
"""
