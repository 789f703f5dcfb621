"""The check types of OHDSI's Data Quality Dashboard for OMOP CDM 5.4 tables, in Kahn's framework, with every failing row.

``fields.csv`` says what each field of the model is (type, required, references, domain, plausible range, dates); which checks
follow from it is said in :mod:`quality.omop.checks`. Thresholds (``thresholds.csv``) and plausible values of concepts
(``concepts.csv``) are parameters, from memory of the dashboard's own files [K].
Sources: Kahn MG et al., A Harmonized Data Quality Assessment Terminology (EGEMS 2016); OHDSI DataQualityDashboard.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

__all__ = ["check_omop"]


def check_omop(folder: Path, *, as_of: date | None = None, out: Path | None = None) -> dict[str, Any]:
    """Check the OMOP tables of a folder. See :func:`quality.omop.running.check_omop`."""
    from quality.omop.running import check_omop as run

    return run(folder, as_of=as_of, out=out)
