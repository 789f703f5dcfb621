"""A wall's own door: `GET /kiosk/<token>` logs the account `kiosk` in and shows the wall, with no typing.

The token stands in the address, hence in access logs: it opens only from the networks listed (this machine by
default) and only to an account that may see walls and nothing else.
"""

import hmac
import ipaddress
import os
import re
from typing import Any

from dashboards.config import surroundings


def register(app: Any) -> None:
    """Add the route to Superset's Flask application. A wrong token or network gets 404, as if nothing were here."""
    from flask import abort, redirect, request, session

    token = surroundings.secret("SUPERSET_KIOSK_TOKEN")
    networks = [
        ipaddress.ip_network(n) for n in os.environ.get("SUPERSET_KIOSK_NETS", "127.0.0.1/32").split()
    ]

    def kiosk(given: str) -> Any:
        from flask_login import login_user
        from superset import security_manager

        caller = ipaddress.ip_address(request.remote_addr or "0.0.0.0")
        slug = request.args.get("to", surroundings.WALL)
        right = hmac.compare_digest(given.encode(), token.encode())
        if not right or not any(caller in network for network in networks):
            abort(404)
        user = security_manager.find_user(username=surroundings.KIOSK)
        if user is None or not re.fullmatch(r"[A-Za-z0-9_-]+", slug):
            abort(404)
        login_user(user, remember=False)
        session.permanent = True
        # standalone=2 and 3 stop the automatic refresh in 6.1.0.
        return redirect(f"/superset/dashboard/{slug}/?standalone=1&show_filters=0")

    app.add_url_rule("/kiosk/<given>", "kiosk", kiosk)
