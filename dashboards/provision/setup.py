"""One process from nothing to a ready Superset: schema, permissions, accounts, the wall.

Needs no serving file and no running server, so it can run beside the pipeline. Every step may be repeated; when
neither code nor surroundings have changed since the last success, nothing is started at all.
"""

import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dashboards.config import chinese, surroundings

CODE = Path(__file__).resolve().parents[1]
STAMP = "setup.json"


def set_up(*, force: bool = False) -> dict[str, Any]:
    """Do what is not done yet; returns `skipped`, `seconds` and the seconds of each step."""
    started = time.perf_counter()
    home = surroundings.home()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamp = home / STAMP
    fingerprint = _fingerprint()
    if not force and _is_done(stamp, fingerprint):
        return {"skipped": True, "seconds": round(time.perf_counter() - started, 2)}
    with _FreshMetadata(home):
        steps = _run_steps(home)
    stamp.write_text(json.dumps({"fingerprint": fingerprint}), "utf-8")
    return {"skipped": False, "seconds": round(time.perf_counter() - started, 2), "steps": steps}


def _run_steps(home: Path) -> dict[str, float]:
    warnings.simplefilter("ignore")
    os.environ["SUPERSET_CONFIG_PATH"] = str(CODE / "config" / "superset_config.py")
    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        at = time.perf_counter()
        result = step()
        seconds[name] = round(time.perf_counter() - at, 2)
        return result

    app = timed("start", _create_app)
    with app.app_context():
        from superset import appbuilder, security_manager

        from dashboards.provision import assets, people

        timed("migrate", _migrate)
        timed("translations", lambda: chinese.write_pack(home))
        timed("permissions", lambda: appbuilder.add_permissions(update_perms=True))
        timed("roles", security_manager.sync_role_definitions)
        timed("accounts", people.provide)
        timed("assets", assets.bring_in)
        timed("access", people.open_dashboards)
    return seconds


def _create_app() -> Any:
    from superset.app import create_app

    app = create_app()
    # Superset tells of every migration and permission; what matters here are failures.
    logging.getLogger().setLevel(logging.ERROR)
    return app


def _migrate() -> None:
    import contextlib
    import io

    import flask_migrate
    import superset

    # Migrations print; the caller's last line is JSON.
    with contextlib.redirect_stdout(io.StringIO()):
        flask_migrate.upgrade(directory=str(Path(superset.__file__).parent / "migrations"))


class _FreshMetadata:
    """The first set-up builds SQLite metadata beside its place and moves it there when whole.

    A migration that is killed halfway cannot be resumed on SQLite (no transactional DDL); this way a next run
    starts from nothing again, and metadata that has once been complete is never deleted.
    """

    def __init__(self, home: Path) -> None:
        self.place = home / "superset.db"
        self.draft = home / "superset.db.new"
        self.needed = not os.environ.get("SUPERSET_META_URI") and not self.place.exists()

    def __enter__(self) -> None:
        if self.needed:
            self.draft.unlink(missing_ok=True)
            os.environ["SUPERSET_META_URI"] = f"sqlite:///{self.draft}"

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self.needed:
            del os.environ["SUPERSET_META_URI"]
            if error is None:
                self.draft.replace(self.place)


def _is_done(stamp: Path, fingerprint: str) -> bool:
    if not stamp.exists() or json.loads(stamp.read_text("utf-8")).get("fingerprint") != fingerprint:
        return False
    return bool(os.environ.get("SUPERSET_META_URI")) or (stamp.parent / "superset.db").exists()


def _fingerprint() -> str:
    """What the state depends on: this folder's code, the lock, the serving path, the metadata, the secrets."""
    digest = hashlib.sha256()
    files = [CODE / "uv.lock"]
    for folder in ("assets", "config", "geometry", "provision"):
        files += [p for p in (CODE / folder).rglob("*") if p.is_file() and p.suffix != ".pyc"]
    for path in sorted(files):
        digest.update(str(path.relative_to(CODE)).encode() + path.read_bytes())
    for text in (str(surroundings.serving_path()), surroundings.metadata_uri()):
        digest.update(text.encode())
    for name in surroundings.SECRETS:
        digest.update(surroundings.secret(name).encode())
    return digest.hexdigest()
