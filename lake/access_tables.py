"""Tables of access: accounts, sessions, break-glass, and what stands beside the audit chain."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, DateTime, Integer, String, Table, Text

from lake.ops_metadata import metadata

#: One person of the staff. ``state``: waiting (proposed, not activated) | active | locked | closed.
portal_account = Table(
    "portal_account",
    metadata,
    Column("user", String(64), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("role", String(32), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column(
        "password", Text, nullable=False
    ),  # Argon2id or PBKDF2-HMAC-SM3, with its salt and cost; empty: OIDC only
    Column("must_change", Boolean, nullable=False),
    Column("totp", Text, nullable=False),  # sealed by SM4-GCM, hexadecimal; empty: none yet
    Column(
        "totp_step", Integer, nullable=False
    ),  # the last 30-second step that was taken: none is taken twice
    Column("recovery", Text, nullable=False),  # JSON list of keyed digests of unused recovery codes
    Column("failed", Integer, nullable=False),
    Column("locked_until", DateTime(timezone=True)),
    Column("oidc_subject", String(200), unique=True),  # issuer|sub
    Column("empi_id", String(32)),  # the person's own record: looking at it raises an alert
    Column("created_by", String(100), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

#: One login. The cookie's word is kept as a keyed digest; ``stage``: factor (password given) | enrol | full.
portal_session = Table(
    "portal_session",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("session_id", String(32), nullable=False, unique=True),
    Column("user", String(64), nullable=False, index=True),
    Column("role", String(32), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("name", String(100), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("source_ip", String(64), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
)

#: Break-glass: one resident, opened for one person of the staff, for so long, with the reason.
glass_grant = Table(
    "glass_grant",
    metadata,
    Column("grant_id", String(32), primary_key=True),
    Column("user", String(64), nullable=False, index=True),
    Column("role", String(32), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("empi_id", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("reviewed_by", String(64)),
    Column("reviewed_at", DateTime(timezone=True)),
)

#: The residents that an audit entry is about; the entry itself holds their number and an SM3 over them.
audit_person = Table(
    "audit_person",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("empi_id", String(32), primary_key=True, index=True),
)

#: The end of the audit chain, sealed by a key that is not in the database: a tail that was cut off shows.
audit_head = Table(
    "audit_head",
    metadata,
    Column("head_id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("seq", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("seal", String(64), nullable=False),  # HMAC-SM3
)

#: Stretches of the chain that lie in sealed files.
audit_archive = Table(
    "audit_archive",
    metadata,
    Column("first_seq", Integer, primary_key=True, autoincrement=False),
    Column("last_seq", Integer, nullable=False),
    Column("first_at", String(40), nullable=False),
    Column("last_at", String(40), nullable=False),
    Column("previous", String(64), nullable=False),  # hash before the first entry
    Column("last_hash", String(64), nullable=False),
    Column("path", String(400), nullable=False),  # below home
    Column("sm3", String(64), nullable=False),  # of the sealed file
    Column("sealed_at", DateTime(timezone=True), nullable=False),
)
