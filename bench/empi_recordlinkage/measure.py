"""Link a FEBRL set with ``recordlinkage`` (ECM, unsupervised): runs in this folder's environment, not the platform's.

``python measure.py < request.json``: ``{"files": [...], "blocking": [[field, ...], ...]}``; prints one JSON object
``{"version", "candidates", "seconds", "peak_rss_mb", "pairs": [[i, j], ...]}`` with rows counted from 0 over all files.
The caller measures how right the pairs are; the truth (the id of a row) is not looked at here.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd
import recordlinkage

#: Fields that are written wrongly letter by letter are alike from this similarity on (the tool's manual uses .85).
ALIKE = 0.85
NAMES = ("given_name", "surname", "address_1", "address_2", "suburb")
NUMBERS = ("street_number", "postcode", "date_of_birth", "soc_sec_id")


def read(path: str) -> pd.DataFrame:
    """A set as the tool itself loads it: text, blanks trimmed."""
    rows = pd.read_csv(path, skipinitialspace=True, dtype=str)
    return rows.drop(columns=["rec_id"])


def peak_rss_mb() -> float:
    """Peak resident memory since this program began; ``ru_maxrss`` would be the caller's, which it was forked from."""
    status = Path("/proc/self/status").read_text("utf-8")
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


def main() -> None:
    request = json.load(sys.stdin)
    began = time.perf_counter()
    frames = [read(path) for path in request["files"]]
    first = len(frames[0])
    if len(frames) == 2:
        frames[1].index += first
    indexer = recordlinkage.Index()
    for rule in request["blocking"]:
        indexer.block(rule)
    candidates = indexer.index(*frames)
    compare = recordlinkage.Compare()
    for field in NAMES:
        compare.string(field, field, method="jarowinkler", threshold=ALIKE, label=field)
    for field in NUMBERS:
        compare.string(field, field, method="damerau_levenshtein", threshold=ALIKE, label=field)
    compare.exact("state", "state", label="state")
    vectors = compare.compute(candidates, *frames)
    matched = recordlinkage.ECMClassifier().fit_predict(vectors)
    print(
        json.dumps(
            {
                "version": recordlinkage.__version__,
                "candidates": len(candidates),
                "seconds": round(time.perf_counter() - began, 2),
                "peak_rss_mb": peak_rss_mb(),
                "pairs": [[int(left), int(right)] for left, right in matched],
            }
        )
    )


if __name__ == "__main__":
    main()
