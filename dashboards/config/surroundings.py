"""Where Superset's state lives, which serving file it reads, and its secrets.

Environment (all optional but SUPERSET_HOME and MEDLAKE_SERVING_PATH in any serious installation):

    SUPERSET_HOME            folder of metadata, caches and secrets           default var/superset
    MEDLAKE_SERVING_PATH     the serving file, a symlink that publish swaps   default var/serving/serving.duckdb
    SUPERSET_PORT            port on 127.0.0.1                                default 8088
    SUPERSET_META_URI        SQLAlchemy URI of the metadata                   default SQLite under SUPERSET_HOME
    SUPERSET_SECRET_KEY, SUPERSET_GUEST_SECRET, SUPERSET_KIOSK_TOKEN, SUPERSET_ADMIN_PASSWORD
                             a missing one is drawn once and kept in SUPERSET_HOME/secrets.json (mode 0600)

This module must stay importable without Superset: `dashboards.links` and the tests read it in a plain Python.
"""

import json
import os
import secrets
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ADMIN = "admin"
KIOSK = "kiosk"
WALL = "led-wall"

SECRETS = {
    "SUPERSET_SECRET_KEY": 42,
    "SUPERSET_GUEST_SECRET": 42,
    "SUPERSET_KIOSK_TOKEN": 24,
    "SUPERSET_ADMIN_PASSWORD": 12,
}
"""Name -> random bytes. Losing the secret key loses every password that Superset has encrypted with it."""


def home() -> Path:
    return Path(os.environ.get("SUPERSET_HOME") or ROOT / "var" / "superset").absolute()


def serving_path() -> Path:
    """The link, not what it points to: publish swaps it while Superset runs."""
    return Path(
        os.environ.get("MEDLAKE_SERVING_PATH") or ROOT / "var" / "serving" / "serving.duckdb"
    ).absolute()


def port() -> int:
    return int(os.environ.get("SUPERSET_PORT") or 8088)


def metadata_uri() -> str:
    return os.environ.get("SUPERSET_META_URI") or f"sqlite:///{home() / 'superset.db'}"


def secret(name: str) -> str:
    """The secret of that name: the environment's, or the one kept under `home()`, drawn at the first call."""
    if value := os.environ.get(name):
        return value
    path = home() / "secrets.json"
    if not path.exists():
        _draw(path)
    value = json.loads(path.read_text("utf-8"))[name]
    assert isinstance(value, str)
    return value


def _draw(path: Path) -> None:
    """Create the secrets' file whole or not at all; of two processes that draw at once one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    drawn = {name: secrets.token_urlsafe(size) for name, size in SECRETS.items()}
    draft = path.with_suffix(f".{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(drawn, indent=1), "utf-8")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def links() -> dict[str, object]:
    """Addresses and logins for the person who has started the wall; the kiosk link needs no typing."""
    base = f"http://127.0.0.1:{port()}"
    return {
        "wall": f"{base}/superset/dashboard/{WALL}/?standalone=1&show_filters=0",
        "kiosk": f"{base}/kiosk/{secret('SUPERSET_KIOSK_TOKEN')}",
        "login_page": f"{base}/login/",
        "health": f"{base}/health",
        "user": ADMIN,
        "password": secret("SUPERSET_ADMIN_PASSWORD"),
    }
