"""A Superset of one's own for tests: real set-up, real server, on a free port, over a hand-made serving file."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.browser import fake_serving

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "dashboards" / ".venv" / "bin" / "python"


@dataclass
class WallServer:
    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def serving(self) -> Path:
        return self.home / "serving" / "serving.duckdb"

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SUPERSET_", "MEDLAKE_"))}
        return inherited | {
            "SUPERSET_HOME": str(self.home / "superset"),
            "MEDLAKE_SERVING_PATH": str(self.serving),
            "SUPERSET_PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
        }

    def _module(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(
            [str(PYTHON), "-m", *words], env=self.env, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))

    def set_up(self, *flags: str) -> dict[str, Any]:
        return self._module("dashboards.provision", *flags)

    def links(self) -> dict[str, Any]:
        return self._module("dashboards.links")

    def publish(self, name: str, **state: bool) -> Path:
        return fake_serving.publish(self.serving, name, **state)

    def start(self) -> None:
        """Serve and return when the login page answers (/health says OK even where every page fails)."""
        log = (self.home / "serve.log").open("wb")
        script = ROOT / "dashboards" / "start.sh"
        self.process = subprocess.Popen(["bash", str(script)], env=self.env, stdout=log, stderr=log)
        while self.get("/login/")[0] != 200:
            assert self.process.poll() is None, (self.home / "serve.log").read_text()[-3000:]

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page for a visitor without a session; 0 when nothing listens."""
        try:
            with urllib.request.urlopen(self.base + path) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return 0, ""
