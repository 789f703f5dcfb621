"""Make the model that comes with the package: ``python -m bench.empi_model`` (about a minute).

Estimated without labels from a city of another seed than the demo's and the benchmark's; the truth is not opened.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from bench.empi_city import DAY, prepare, use_home
from bench.harness import say

RESIDENTS = 150_000
SEED = 7


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="medlake-empi-model-") as folder:
        home = str(Path(folder) / "var")
        say(f"city of {RESIDENTS:,} residents, seed {SEED} …")
        prepare(home, RESIDENTS, SEED)
        use_home(home)
        import empi
        from empi.model import PACKAGED

        trained = empi.train(DAY)
        content = json.loads(Path(trained["path"]).read_text("utf-8"))
        PACKAGED.parent.mkdir(exist_ok=True)
        PACKAGED.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(trained | {"path": str(PACKAGED)}))


if __name__ == "__main__":
    main()
