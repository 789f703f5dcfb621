"""The pack on a node's disk: each resident sealed by SM4, found by HMAC-SM3 of an identifier, never by the identifier.

Codes, fields and entry rules lie in clear, they tell nothing of anybody. The secret is in memory only; without it
(after a start, before the passphrase or the parent) the pack is locked: nothing of it can be read, by nobody.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SM3
from cryptography.hazmat.primitives.hmac import HMAC

from ingestion.edge import pack_files
from ingestion.edge.crypto import derive
from ingestion.edge.spool import Spool
from lake import kill
from lake.crypto import sm4_open, sm4_seal
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("edge")
_TABLES = """
CREATE TABLE IF NOT EXISTS resident (name BLOB PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS token (token BLOB NOT NULL, name BLOB NOT NULL, PRIMARY KEY (token, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS token_of ON token (name);
CREATE TABLE IF NOT EXISTS item (kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, name));
"""

#: Ways to look somebody up, and the fields of a resident they go by.
WAYS = ("archive_id", "id_no", "patient_local_id", "health_card_no", "name_birth")


class PackStore:
    """``version`` 0: no pack yet. ``problem``: number of the last error with it."""

    def __init__(self, path: Path, node: str, centre: ec.EllipticCurvePublicKey) -> None:
        self._store, self._node, self._centre = Spool(path, _TABLES), node, centre
        self._secret: bytes | None = None
        self._lock = threading.RLock()
        self.problem = ""

    def close(self) -> None:
        self._store.close()

    @property
    def version(self) -> int:
        return int(self._store.fact("version", "0"))

    @property
    def locked(self) -> bool:
        return self._secret is None

    @property
    def facts(self) -> dict[str, str]:
        """Version, day and size of the pack; no content."""
        db = self._store.reading()
        residents = db.execute("SELECT count(*) FROM resident").fetchone()[0]
        return self._store.facts("pack_") | {"residents": str(residents), "version": str(self.version)}

    def unlock(self, secret: bytes) -> None:
        """Take the secret into memory.

        Raises:
            MedlakeError: E291, it is not this pack's.
        """
        sample = self._store.reading().execute("SELECT name, body FROM resident LIMIT 1").fetchone()
        if sample:
            try:
                sm4_open(derive(secret, "pack-rest"), sample[1], sample[0])
            except InvalidTag as error:
                raise MedlakeError("E291", place=self._node) from error
        self._secret = secret

    def _keys(self) -> tuple[bytes, bytes]:
        if self._secret is None:
            raise MedlakeError("E289", place=self._node)
        return derive(self._secret, "pack-rest"), derive(self._secret, "pack-index", 32)

    # ---- coming in

    def take(self, data: bytes) -> int:
        """Apply a pack file, all of it or nothing. Returns the rows it had.

        Raises:
            MedlakeError: E289 locked; E290 not to be trusted, or not following on the version here.
        """
        rest, index = self._keys()
        assert self._secret is not None
        opened = pack_files.read(data, self._node, self._centre)
        head, count = opened.header, 0
        if head["from"] not in (0, self.version) or head["to"] <= self.version:
            raise MedlakeError(
                "E290", place=self._node, detail=f"{head['from']} to {head['to']}, here {self.version}"
            )
        with self._lock, self._store.writing() as db:
            if not head["from"]:
                for table in ("resident", "token", "item"):
                    db.execute(f"DELETE FROM {table}")
            for rows in pack_files.rows(opened, self._secret):
                people = [r for r in rows if r["k"] == "resident"]
                names = [(_token(index, "name", r["n"]), r["b"]) for r in people]
                if head["from"]:
                    db.executemany("DELETE FROM token WHERE name = ?", [(n,) for n, _ in names])
                    db.executemany("DELETE FROM resident WHERE name = ?", [(n,) for n, _ in names])
                # one by one: each resident must open alone, and a section is some thousand of them
                sealed = [
                    (n, sm4_seal(rest, json.dumps(b, ensure_ascii=False).encode(), n)) for n, b in names if b
                ]
                db.executemany("INSERT INTO resident VALUES (?, ?)", sealed)
                tokens = {(_token(index, way, v), n) for n, b in names if b for way, v in _ways(b)}
                db.executemany("INSERT OR IGNORE INTO token VALUES (?, ?)", tokens)
                things = [r for r in rows if r["k"] != "resident"]
                db.executemany(
                    "DELETE FROM item WHERE kind = ? AND name = ?", [(r["k"], r["n"]) for r in things]
                )
                kept = [
                    (r["k"], r["n"], json.dumps(r["b"], ensure_ascii=False))
                    for r in things
                    if r["b"] is not None
                ]
                db.executemany("INSERT INTO item VALUES (?, ?, ?)", kept)
                count += len(rows)
                kill.point("edge.packing")
            told = {"version": head["to"], "pack_date": head["data_date"], "pack_built_at": head["built_at"]}
            db.executemany(
                "INSERT OR REPLACE INTO fact VALUES (?, ?)", [(k, str(v)) for k, v in told.items()]
            )
        _log.info("edge_pack_taken", version=head["to"], rows=count)
        return count

    # ---- looking up

    def find(self, way: str, value: str) -> list[dict[str, Any]]:
        """Residents of this pack with that identifier. ``name_birth``: ``name|YYYY-MM-DD``.

        Raises:
            MedlakeError: E289, the pack is locked; E299, no such way.
        """
        if way not in WAYS:
            raise MedlakeError("E299", detail=f"{way}; {', '.join(WAYS)}")
        rest, index = self._keys()
        rows = self._store.reading().execute(
            "SELECT name, body FROM token JOIN resident USING (name) WHERE token = ?",
            (_token(index, way, value),),
        )
        return [json.loads(sm4_open(rest, body, name)) for name, body in rows.fetchall()]

    def items(self, kind: str) -> dict[str, Any]:
        rows = self._store.reading().execute(
            "SELECT name, body FROM item WHERE kind = ? ORDER BY name", (kind,)
        )
        return {n: json.loads(b) for n, b in rows}

    def item(self, kind: str, name: str) -> Any:
        row = (
            self._store.reading()
            .execute("SELECT body FROM item WHERE kind = ? AND name = ?", (kind, name))
            .fetchone()
        )
        return json.loads(row[0]) if row else None


def _token(key: bytes, way: str, value: str) -> bytes:
    digest = HMAC(key, SM3())
    digest.update(f"{way}|{value.strip().upper()}".encode())
    return digest.finalize()[:16]


def _ways(body: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """How this resident can be found: way and value."""
    for way in ("archive_id", "id_no", "patient_local_id", "health_card_no"):
        for value in body.get(way) or []:
            if value:
                yield way, str(value)
    if body.get("name") and body.get("birth_date"):
        yield "name_birth", f"{body['name']}|{body['birth_date']}"
