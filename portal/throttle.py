"""How often a person may ask, and an address may try to log in; and whence a request came."""

from __future__ import annotations

from functools import lru_cache

from starlette.requests import Request

from lake.access_policy import policy
from lake.settings import settings
from portal.rates import Rates

#: Buckets are forgotten when there are more: an attacker with many addresses must not fill the memory.
_MOST = 20_000


class Throttle(Rates):
    """:class:`Rates` of bounded memory."""

    def wait(self, client: str) -> float:
        if len(self._levels) > _MOST:
            self._levels.clear()
        return super().wait(client)


def persons() -> Throttle:
    """Requests of persons (made for the application)."""
    return Throttle(settings().portal_rate_per_second, settings().portal_burst)


def logins() -> Throttle:
    """Attempts to log in, by address."""
    rule = policy().login
    return Throttle(1 / rule["address_seconds"], rule["address_burst"])


@lru_cache(maxsize=4)
def _trusted(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


def source_ip(request: Request) -> str:
    """Whence a request came. What a proxy says counts only when the proxy is one of ours."""
    near = request.client.host if request.client else ""
    if near in _trusted(settings().trusted_proxies):
        said = [p.strip() for p in request.headers.get("x-forwarded-for", "").split(",") if p.strip()]
        return said[-1][:64] if said else near
    return near


def is_https(request: Request) -> bool:
    """Whether the browser came over TLS; in production cookies are for TLS in any case."""
    near = request.client.host if request.client else ""
    behind = (
        near in _trusted(settings().trusted_proxies) and request.headers.get("x-forwarded-proto") == "https"
    )
    return request.url.scheme == "https" or behind or settings().portal_mode == "production"
