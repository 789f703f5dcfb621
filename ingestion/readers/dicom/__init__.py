"""DICOM objects: headers only, never pixels. One row per object, one per series and study that a delivery touches.

Files of the real world have no preamble, a wrong character set, values that break their own rules, or end
early. What the header still gives is a row; a file without a header that can be read is rejected.

How counts stay right when the objects of a study arrive over days: the rows of ``imaging_series`` and
``imaging_study`` that come from files carry what is the same in all their headers and no counts, so they are the
same whichever objects a delivery holds, and a second delivery is a duplicate. Counts in these tables are what an
archive *announces* (QIDO-RS, C-FIND, or the header itself); what has *arrived* is counted from the rows of
``imaging_instance`` at the moment of asking (``ingestion.pull.pacs_completeness``, and the mart of imaging
studies in dbt), which no order of deliveries, no repetition and no second worker can make wrong. Of two study
rows the one with the later ``source_updated_at`` is current: an archive's answer bears the instant of the query,
a header's row its study's date, so a header never overwrites what an archive has announced.
"""

from __future__ import annotations

from ingestion.readers.dicom.rows import read_header, read_many
from ingestion.readers.dicom.text import person_name

__all__ = ["person_name", "read_header", "read_many"]
