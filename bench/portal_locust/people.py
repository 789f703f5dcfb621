"""Locust's people: each has a role's session and goes from page to page of it, a second or three apart.

``MEDLAKE_LOAD`` is JSON ``{role: {"cookie": "...", "pages": ["/", ...]}}``, made by ``bench.portal``.
"""

from __future__ import annotations

import itertools
import json
import os

from locust import HttpUser, between, task

ROLES = json.loads(os.environ["MEDLAKE_LOAD"])
_turn = itertools.cycle(sorted(ROLES))


class Person(HttpUser):
    wait_time = between(1, 3)

    def on_start(self) -> None:
        self.role = next(_turn)
        self.client.headers["cookie"] = ROLES[self.role]["cookie"]
        self.pages = itertools.cycle(ROLES[self.role]["pages"])

    @task
    def look(self) -> None:
        path = next(self.pages)
        with self.client.get(path, allow_redirects=False, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}")
