"""The words of ``mapping.yaml`` as SQL over one resource. The JSON of a resource is parsed twice, however many
fields it fills: once for all texts (``s``), once for all lists (``v``); the elements of ``each`` likewise.

A word is a JSON path (``$.gender``), or one of:

=============  ==========================================================================================
id             the resource's logical id
updated        when the source changed it: ``meta.lastUpdated``, else the day it was delivered
ordinal        the number of the element of ``each``, from 1
number         a number that follows from the resource's id (for keys that need one), the same every time
report_id      the report that lists the observation, ``report_position`` its place there, ``component_number`` of
               a component of it: place * 1000 + number of the component (``linked`` entries)
first: [..]    the first of several words that gives something
const: x       the text itself
ref: path      the id that a reference names: ``Patient/7``, an absolute URL, ``urn:uuid:7``, a search by identifier
coding: path   the code of a CodeableConcept; ``system: [..]`` says whose, ``except: [..]`` whose not, else the first
display: path  its text, else its first display
identifier: path  the value of an Identifier list; ``system: [..]`` or ``type: [..]`` (code of its type) says which
uid: path      the DICOM UID of an Identifier list (``urn:dicom:uid``)
codes: path    all values of a path with ``[*]``, joined by ``with``
telecom: path  the value of a ContactPoint list by ``system``
name: path     a HumanName, or a list of them: the official one's text, else family and given names
address: path  an Address list: its text, else its parts
quantity: path the number of a Quantity as it was written (1.10 stays 1.10)
base64: path   an attachment's data as text, where it is text
join: [..]     several words joined by ``with``
when: test     with ``then: word``: the word where the test holds (tests: see ``Compiler.condition``)
map: {..}      with ``of: word``: another value for the values named, others as they are
=============  ==========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ingestion.conform import quoted

Word = str | dict[str, Any]

_CODING = '[{"system":"VARCHAR","code":"VARCHAR","display":"VARCHAR"}]'
_IDENTIFIER = '[{"system":"VARCHAR","value":"VARCHAR","use":"VARCHAR","type":{"coding":[{"code":"VARCHAR"}],"text":"VARCHAR"}}]'
_TELECOM = '[{"system":"VARCHAR","value":"VARCHAR","use":"VARCHAR"}]'
_NAME = '[{"use":"VARCHAR","text":"VARCHAR","family":"VARCHAR","given":["VARCHAR"]}]'
_ADDRESS = '[{"text":"VARCHAR","state":"VARCHAR","city":"VARCHAR","district":"VARCHAR","line":["VARCHAR"]}]'
_HAN = "[\\x{2E80}-\\x{9FFF}\\x{F900}-\\x{FAFF}]"


def text(value: str) -> str:
    """A SQL string."""
    return "'" + value.replace("'", "''") + "'"


def one_of(column: str, values: Any) -> str:
    listed = values if isinstance(values, list) else [values]
    return f"{column} IN ({', '.join(text(str(v)) for v in listed)})"


@dataclass
class Scope:
    """One JSON column (``content``, or ``item`` within ``each``) and what is taken out of it."""

    column: str
    prefix: str
    texts: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)

    def text(self, path: str) -> str:
        if path not in self.texts:
            self.texts.append(path)
        return f"{self.prefix}s[{self.texts.index(path) + 1}]"

    def json(self, path: str) -> str:
        if path not in self.lists:
            self.lists.append(path)
        return f"{self.prefix}v[{self.lists.index(path) + 1}]"

    def columns(self) -> list[str]:
        """What the query below must give: the two lists."""
        made = []
        for letter, function, paths in (
            ("s", "json_extract_string", self.texts),
            ("v", "json_extract", self.lists),
        ):
            if paths:
                listed = ", ".join(text(p) for p in paths)
                made.append(f"{function}({self.column}, [{listed}]) AS {self.prefix}{letter}")
        return made


def reference(value: str) -> str:
    """The id in a reference; a search by identifier (``Practitioner?identifier=system|7``) gives the identifier."""
    return f"""CASE WHEN {value} LIKE 'urn:%' THEN regexp_extract({value}, '^urn:(?:uuid|oid):(.+)$', 1)
        WHEN {value} LIKE '%?%' THEN nullif(regexp_extract({value}, '[?&]identifier=(?:[^|&]*\\|)?([^&]+)', 1), '')
        ELSE nullif(regexp_extract({value}, '(?:^|/)[A-Z][A-Za-z]+/([A-Za-z0-9._-]+)(?:/_history/[^/]*)?$', 1), '') END"""


class Compiler:
    """Words to SQL for one mapping; ``item`` paths begin with ``@`` (``@.code``)."""

    def __init__(self, has_items: bool) -> None:
        self.whole = Scope("content", "w_")
        self.item = Scope("item", "i_") if has_items else None

    def _scope(self, path: str) -> tuple[Scope, str]:
        if path.startswith("@"):
            if self.item is None:
                raise ValueError(f"{path}: only within each")
            return self.item, "$" + path[1:]
        return self.whole, path

    def path(self, path: str) -> str:
        scope, inner = self._scope(path)
        return f"nullif({scope.text(inner)}, '')"

    def json(self, path: str) -> str:
        scope, inner = self._scope(path)
        return scope.json(inner)

    def word(self, word: Word) -> str:
        """One word as SQL.

        Raises:
            ValueError: no such word.
        """
        if isinstance(word, str):
            named = {
                "id": "resource_id",
                "updated": "updated",
                "ordinal": "CAST(ordinal AS VARCHAR)",
                "number": "CAST(CAST('0x' || substr(md5(resource_id), 1, 8) AS BIGINT) AS VARCHAR)",
                "report_id": "report_id",
                "report_position": "CAST(position AS VARCHAR)",
                "component_number": "CAST(coalesce(position, 1) * 1000 + ordinal AS VARCHAR)",
            }
            if word[0] in "$@":
                return self.path(word)
            return named[word]
        kind = next((k for k in _KINDS if k in word), None)
        if kind is None:
            raise ValueError(f"unknown word: {sorted(word)}")
        return str(getattr(self, "_" + kind)(word))

    def _first(self, word: dict[str, Any]) -> str:
        return f"coalesce({', '.join(self.word(w) for w in word['first'])})"

    def _const(self, word: dict[str, Any]) -> str:
        return text(str(word["const"]))

    def _ref(self, word: dict[str, Any]) -> str:
        base = word["ref"]
        return (
            f"coalesce({reference(self.path(base + '.reference'))}, {self.path(base + '.identifier.value')})"
        )

    def _coding(self, word: dict[str, Any]) -> str:
        found = f"from_json({self.json(word['coding'] + '.coding')}, '{_CODING}')"
        if "system" in word:
            found = f"list_filter({found}, x -> {one_of('x.system', word['system'])})"
        if "except" in word:
            found = f"list_filter({found}, x -> NOT coalesce({one_of('x.system', word['except'])}, false))"
        return f"nullif({found}[1].code, '')"

    def _display(self, word: dict[str, Any]) -> str:
        base = word["display"]
        found = f"from_json({self.json(base + '.coding')}, '{_CODING}')"
        return f"coalesce({self.path(base + '.text')}, nullif({found}[1].display, ''))"

    def _identifier(self, word: dict[str, Any]) -> str:
        found = f"from_json({self.json(word['identifier'])}, '{_IDENTIFIER}')"
        tests = []
        if "system" in word:
            tests.append(one_of("x.system", word["system"]))
        if "type" in word:
            tests.append(one_of("x.type.coding[1].code", word["type"]))
        if tests:
            found = f"list_filter({found}, x -> {' OR '.join(tests)})"
        return f"nullif({found}[1].value, '')"

    def _uid(self, word: dict[str, Any]) -> str:
        dicom = self._identifier({"identifier": word["uid"], "system": ["urn:dicom:uid"]})
        return f"nullif(regexp_replace({dicom}, '^urn:oid:', ''), '')"

    def _codes(self, word: dict[str, Any]) -> str:
        scope, inner = self._scope(word["codes"])
        found = f"json_extract_string({scope.column}, {text(inner)})"
        return f"nullif(array_to_string({found}, {text(word.get('with', ' '))}), '')"

    def _telecom(self, word: dict[str, Any]) -> str:
        found = f"from_json({self.json(word['telecom'])}, '{_TELECOM}')"
        return f"list_filter({found}, x -> {one_of('x.system', word['system'])})[1].value"

    def _name(self, word: dict[str, Any]) -> str:
        node = self.json(word["name"])
        found = f"coalesce(from_json({node}, '{_NAME}'), [from_json({node}, '{_NAME[1:-1]}')])"
        return f"""list_transform([coalesce(list_filter({found}, x -> x.use = 'official')[1], {found}[1])], n ->
            coalesce(nullif(n.text, ''), nullif(CASE WHEN regexp_matches(concat(n.family, n.given[1]), '{_HAN}')
                THEN concat(n.family, array_to_string(n.given, ''))
                ELSE trim(concat_ws(' ', array_to_string(n.given, ' '), n.family)) END, '')))[1]"""

    def _address(self, word: dict[str, Any]) -> str:
        found = f"from_json({self.json(word['address'])}, '{_ADDRESS}')"
        return f"""list_transform([{found}[1]], a -> coalesce(nullif(a.text, ''), nullif(
            concat(a.state, a.city, a.district, array_to_string(a.line, '')), '')))[1]"""

    def _quantity(self, word: dict[str, Any]) -> str:
        base = word["quantity"]
        scope, inner = self._scope(base)
        key = inner.rsplit(".", 1)[-1]
        pattern = f'"{key}"\\s*:\\s*\\{{[^{{}}]*?"value"\\s*:\\s*(-?[0-9][0-9.eE+-]*)'
        written = f"nullif(regexp_extract({scope.column}::VARCHAR, {text(pattern)}, 1), '')"
        parsed = self.path(base + ".value")
        return f"CASE WHEN {parsed} IS NOT NULL THEN coalesce({written}, {parsed}) END"

    def _base64(self, word: dict[str, Any]) -> str:
        data = self.path(word["base64"])
        return f"CASE WHEN {data} IS NOT NULL THEN try(decode(from_base64({data}))) END"

    def _join(self, word: dict[str, Any]) -> str:
        parts = ", ".join(self.word(w) for w in word["join"])
        return f"nullif(concat_ws({text(word.get('with', ' '))}, {parts}), '')"

    def _map(self, word: dict[str, Any]) -> str:
        value = self.word(word["of"])
        cases = " ".join(f"WHEN {text(str(k))} THEN {text(str(v))}" for k, v in word["map"].items())
        return f"CASE {value} {cases} ELSE {value} END"

    def _when(self, word: dict[str, Any]) -> str:
        return f"CASE WHEN {self.condition(word['when'])} THEN {self.word(word['then'])} END"

    def condition(self, test: dict[str, Any]) -> str:
        """One line of ``where``: ``{any: path, in: [..]}``, ``{none: path, in: [..]}``, ``{has: word}``,
        ``{lacks: word}``, ``{is: word, in: [..]}``, ``{either: [..]}``, ``{all: [..]}``."""
        for name, joint in (("either", " OR "), ("all", " AND ")):
            if name in test:
                return "(" + joint.join(self.condition(t) for t in test[name]) + ")"
        if "any" in test:
            scope, inner = self._scope(test["any"])
            listed = ", ".join(text(str(v)) for v in test["in"])
            return f"list_has_any(json_extract_string({scope.column}, {text(inner)}), [{listed}])"
        if "none" in test:
            return f"NOT coalesce({self.condition({'any': test['none'], 'in': test['in']})}, false)"
        if "has" in test:
            return f"{self.word(test['has'])} IS NOT NULL"
        if "lacks" in test:
            return f"{self.word(test['lacks'])} IS NULL"
        if "is" in test:
            return one_of(self.word(test["is"]), test["in"])
        raise ValueError(f"unknown test: {sorted(test)}")


_READING = (
    "ref",
    "coding",
    "display",
    "identifier",
    "uid",
    "codes",
    "telecom",
    "name",
    "address",
    "quantity",
    "base64",
)
_KINDS = ("first", "const", "join", "map", "when", *_READING)


def place_of(word: Word) -> str:
    """The element that a word reads, for a reason in quarantine: ``$.subject`` of Encounter is ``Encounter.subject``."""
    if isinstance(word, str):
        return word[2:] if word[0] in "$@" else {"id": "id", "updated": "meta.lastUpdated"}.get(word, word)
    for kind in _READING:
        if kind in word:
            return str(word[kind])[2:]
    for kind in ("first", "join"):
        if kind in word:
            return " | ".join(dict.fromkeys(place_of(w) for w in word[kind]))
    if "then" in word:
        return place_of(word["then"])
    return place_of(word["of"]) if "of" in word else str(word.get("const", ""))


__all__ = ["Compiler", "Scope", "Word", "one_of", "place_of", "quoted", "reference", "text"]
