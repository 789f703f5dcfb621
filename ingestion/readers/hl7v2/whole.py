"""Messages kept whole: one ``hl7v2_message`` row each, all segments as JSON lists of fields."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.readers.hl7v2.lookup import Reading
from ingestion.readers.hl7v2.rows import Found
from ingestion.readers.hl7v2.segments import Segments

TABLE = "hl7v2_message"


def _json_lines(texts: pa.StringArray) -> pa.StringArray:
    """Each segment as a JSON list of its fields: escaping first, then the separator becomes ``","``."""
    plain = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    joined = pc.binary_join_element_wise('["', pc.replace_substring(plain, "|", '","'), '"]', "")
    odd = pc.match_substring_regex(texts, "[\x01-\x1f]")
    if not pc.any(odd).as_py():
        return joined
    mended = [
        json.dumps(t.split("|"), ensure_ascii=False, separators=(",", ":"))
        for t in texts.filter(odd).to_pylist()
    ]
    return pc.replace_with_mask(joined, odd, pa.array(mended, pa.string()))


def _by_message(segments: Segments, texts: pa.StringArray, between: str) -> pa.StringArray:
    offsets = pa.array(np.append(segments.first, len(texts)).astype(np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), between)


def messages(reading: Reading) -> Found:
    """All messages of a chunk; senders reuse control ids, so a hash of the text tells messages apart."""
    segments = reading.segments
    bodies = _by_message(segments, _json_lines(segments.text), ",")
    texts = _by_message(segments, segments.text, "\n")
    as_json = pc.binary_join_element_wise("[", bodies, "]", "")
    digests = [hashlib.sha256(t).hexdigest() for t in texts.cast(pa.binary()).to_pylist()]
    if segments.original:
        listed = as_json.to_pylist()
        for n, (fields, text) in segments.original.items():
            listed[n], digests[n] = fields, hashlib.sha256(text.encode()).hexdigest()
        as_json = pa.array(listed, pa.string())
    counts = np.diff(np.append(segments.first, len(segments.text)))
    columns = {
        "message_control_id": reading.header(10),
        "message_type": pa.array(reading.types.tolist(), pa.string()),
        "trigger_event": reading.header(9, 2),
        "hl7_version": reading.header(12),
        "sending_application": reading.header(3),
        "sending_facility": reading.orgs,
        "message_at": reading.header(7),
        "charset": reading.header(18),
        "segment_count": pa.array(counts).cast(pa.string()),
        "segments": as_json,
        "content_hash": pa.array(digests, pa.string()),
    }
    return Found(TABLE, columns, np.arange(segments.count), segments.first)
