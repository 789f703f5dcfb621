"""Any Bundle, in any layout, read in windows of any size: the entries are those that a JSON parser finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.readers.fhir.split import Broken, Bundle

#: Texts with what confuses a scanner: quotes, backslashes, braces, keys of the Bundle itself, other scripts.
words = st.text(st.sampled_from('ab"\\{}[],:王\u00e9\U0001f600\n\t '), max_size=8) | st.sampled_from(
    ['"entry":[{', "resource", '"resource":{', "\\", '\\"', "}]}"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**20) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
resources = st.dictionaries(words, values, max_size=4).map(lambda d: {"resourceType": "Basic"} | d)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "fullUrl": words,
        "link": st.lists(st.fixed_dictionaries({"resource": st.just({"a": 1})}), max_size=2),
        "request": st.fixed_dictionaries({"method": st.sampled_from(["PUT", "DELETE"]), "url": words}),
        "response": st.fixed_dictionaries({"outcome": resources}),
    },
)


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    around = draw(envelopes)
    parts = list(around.items())
    if draw(st.integers(0, 9)) > 0:
        parts.insert(draw(st.integers(0, len(parts))), ("resource", draw(resources)))
    return dict(parts)


@st.composite
def bundles(draw: st.DrawFn) -> dict[str, Any]:
    around = {"type": "history", "link": [{"relation": "self", "url": "[{"}], "total": 3}
    parts = [("resourceType", "Bundle"), *draw(st.permutations(list(around.items())))]
    parts.insert(draw(st.integers(1, len(parts))), ("entry", draw(st.lists(entries(), max_size=6))))
    return dict(parts)


def found(data: bytes, window: int) -> tuple[list[Any], list[Any]]:
    kept: list[Any] = []
    around: list[Any] = []
    for part in Bundle(data, window).windows():
        kept += [None if r is None else json.loads(r) for r in part.resource.to_pylist()]
        around += [json.loads(e) for e in part.envelope.to_pylist() if e is not None]
    return kept, around


@settings(max_examples=100, deadline=None)
@given(bundles(), st.integers(1, 400), st.sampled_from([None, 0, 1, 4]), st.booleans(), st.booleans())
def test_entries_are_those_of_a_parser(
    bundle: dict[str, Any], window: int, indent: int | None, ascii_only: bool, bom: bool
) -> None:
    data = json.dumps(bundle, indent=indent, ensure_ascii=ascii_only).encode()
    kept, around = found(b"\xef\xbb\xbf" + data if bom else data, window)
    expected = bundle["entry"]
    assert kept == [e.get("resource") for e in expected]
    # the scanner leaves the resource's place empty (null)
    without = [{k: v for k, v in e.items() if k != "resource"} for e in expected]
    assert [{k: v for k, v in e.items() if k != "resource"} for e in around] == without


@settings(max_examples=100, deadline=None)
@given(bundles().filter(lambda b: b["entry"]), st.integers(1, 400), st.floats(0, 0.999))
def test_a_bundle_that_is_cut_off_is_told(bundle: dict[str, Any], window: int, share: float) -> None:
    data = json.dumps(bundle).encode()
    close = data.rindex(b"]") if list(bundle)[-1] == "entry" else len(data)
    part = data[: int(share * min(close, data.index(b'"entry"') + 9))] or b"{"
    with pytest.raises(Broken):
        found(part, window)


@settings(max_examples=100, deadline=None)
@given(resources, st.integers(1, 100))
def test_a_document_that_is_no_bundle_is_itself(resource: dict[str, Any], window: int) -> None:
    kept, _ = found(json.dumps(resource).encode(), window)
    assert kept == [resource]


def test_numbers_stay_as_written() -> None:
    data = b'{"resourceType":"Bundle","entry":[ { "resource" : {"value": 1.10, "big": 12345678901234567890.10} } ]}'
    (part,) = Bundle(data).windows()
    assert part.resource.to_pylist() == ['{"value":1.10,"big":12345678901234567890.10}']


def test_a_list_has_entries_but_is_no_bundle(tmp_path: Path) -> None:
    data = json.dumps(
        {"resourceType": "List", "id": "l", "entry": [{"item": {"reference": "Patient/1"}}]}
    ).encode()
    bundle = Bundle(data)
    (part,) = bundle.windows()
    assert json.loads(part.resource.to_pylist()[0])["resourceType"] == "List" and not bundle.is_bundle
