"""The check by changes: what a day cannot have changed is not judged again, and the result is that of a full check.

``evaluate_day`` decides, evaluates and leaves the connection as ``quality.daily`` goes on with it. How it is known what a
day can change: ``plan`` (by the texts of rules), ``changed`` (by versions of tables), ``worlds`` (whose records these are).
"""

from __future__ import annotations

from quality.incremental.day import Day, Mode, evaluate_day

__all__ = ["Day", "Mode", "evaluate_day"]
