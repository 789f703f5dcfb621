"""How the wall is served: loopback only, one parent that loads Superset once, two workers with threads."""

import os

from dashboards.config import surroundings

bind = f"127.0.0.1:{surroundings.port()}"
workers = int(os.environ.get("SUPERSET_WORKERS", "2"))
worker_class = "gthread"
threads = 8
preload_app = True
timeout = 120
# Walls keep their connections open; a stop must not wait for them.
graceful_timeout = 3
accesslog = None
errorlog = "-"
loglevel = "warning"
# gunicorn 26 would otherwise write a control socket under the home directory.
control_socket_disable = True
