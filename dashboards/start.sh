#!/usr/bin/env bash
# Serve the wall on 127.0.0.1:$SUPERSET_PORT. This process becomes gunicorn's parent: its pid stops everything.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
export PYTHONPATH=$PWD SUPERSET_CONFIG_PATH=$here/config/superset_config.py
exec "$here/.venv/bin/gunicorn" --config "$here/config/gunicorn_conf.py" "superset.app:create_app()"
