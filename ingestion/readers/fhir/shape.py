"""The minimal shape of R4: JSON, an object, a known ``resourceType``, an id (its own, or the one that the entry's
``fullUrl`` or ``request.url`` gives).

Not checked: cardinalities, value sets, invariants, profiles, the syntax of dates and references; a typed table's
contract checks what it takes.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

_ID = r"(?:^|/)([A-Z][A-Za-z]+)/([A-Za-z0-9._-]+)(?:/_history/[^/]*)?$"


@lru_cache(maxsize=1)
def resource_types() -> frozenset[str]:
    """All resource types of FHIR R4 (4.0.1)."""
    path = Path(__file__).with_name("resource_types.txt")
    lines = path.read_text("utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def _first(*paths: str) -> str:
    return ", ".join("'" + p + "'" for p in paths)


_HEAD = _first(
    "$.resourceType",
    "$.id",
    "$.meta.versionId",
    "$.meta.lastUpdated",
    "$.subject.reference",
    "$.patient.reference",
    "$.meta.profile[0]",
)
_ENTRY = _first(
    "$.fullUrl", "$.request.method", "$.request.url", "$.response.lastModified", "$.response.etag"
)

#: Pieces (``line, content, envelope``) to what is in them; ``state`` says why one is no resource. Reads ``types``.
PARSE = f"""
    WITH parsed AS (
        SELECT line, content, envelope,
            CASE WHEN content IS NULL THEN 'NONE' WHEN NOT json_valid(content) THEN 'BROKEN'
                 WHEN json_type(content) <> 'OBJECT' THEN 'OTHER' ELSE 'OBJECT' END AS kind,
            CASE WHEN envelope IS NOT NULL AND json_valid(envelope) THEN json_extract_string(envelope, [{_ENTRY}]) END AS e
        FROM pieces
    ), head AS (
        SELECT *, CASE WHEN kind = 'OBJECT' THEN json_extract_string(content, [{_HEAD}]) END AS h,
            upper(coalesce(e[2], '')) AS method, e[3] AS url, e[1] AS full_url
        FROM parsed
    ), named AS (
        SELECT *,
            CASE WHEN method = 'DELETE' THEN nullif(regexp_extract(url, '{_ID}', 1), '') ELSE h[1] END AS resource_type,
            CASE WHEN method = 'DELETE' THEN nullif(regexp_extract(url, '{_ID}', 2), '')
                 ELSE coalesce(nullif(h[2], ''),
                    CASE WHEN method IN ('PUT', 'PATCH') THEN nullif(regexp_extract(url, '{_ID}', 2), '') END,
                    nullif(regexp_extract(full_url, '^urn:(?:uuid|oid):(.+)$', 1), ''),
                    nullif(regexp_extract(full_url, '{_ID}', 2), '')) END AS resource_id
        FROM head
    )
    SELECT line, resource_type, resource_id,
        coalesce(nullif(h[3], ''), nullif(regexp_extract(e[5], '"([^"]+)"', 1), '')) AS version_id,
        coalesce(nullif(h[4], ''), nullif(e[4], '')) AS last_updated_at,
        coalesce(h[5], h[6]) AS subject_reference, h[7] AS profile, full_url,
        CASE WHEN method = 'DELETE' THEN 'D' ELSE 'U' END AS op,
        CASE WHEN method = 'DELETE' THEN NULL ELSE content END AS content,
        coalesce(content, envelope) AS raw,
        CASE WHEN method = 'DELETE' THEN CASE WHEN resource_id IS NULL THEN 'CONDITIONAL' ELSE 'GOOD' END
             WHEN method = 'PATCH' THEN 'PATCH'
             WHEN kind <> 'OBJECT' THEN kind
             WHEN coalesce(h[1], '') = '' THEN 'UNTYPED'
             WHEN h[1] NOT IN (SELECT name FROM types) THEN 'UNKNOWN' ELSE 'GOOD' END AS state
    FROM named ORDER BY line"""


#: Number and context of the error for each state that is no resource.
REFUSED: dict[str, tuple[str, dict[str, str]]] = {
    "NONE": ("E224", {}),
    "BROKEN": ("E216", {}),
    "OTHER": ("E219", {"detail": "object"}),
    "UNTYPED": ("E219", {"detail": "resourceType"}),
    "UNKNOWN": ("E256", {}),
    "CONDITIONAL": ("E257", {}),
    "PATCH": ("E257", {}),
}
