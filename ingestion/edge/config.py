"""A node's folder: who it is, whom it trusts, where its parent is, how much it may use."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ingestion.edge import identity
from ingestion.edge.identity import Identity
from lake.errors import MedlakeError


@dataclass(frozen=True)
class NodeConfig:
    """``node.yaml``. ``listen`` (``host:port``) makes the node a parent of stations; empty for a station's terminal."""

    node: str
    org_code: str
    parent: str
    parent_address: str
    epoch: int = 1
    listen: str = ""
    page_port: int = 8310
    mllp_port: int = 0
    mllp_feed: str = "hl7v2"
    quota_mb: int = 20_000
    reserve_mb: int = 500
    bandwidth_bytes_per_second: int = 0
    heartbeat_seconds: float = 30.0
    settle_seconds: float = 2.0
    timeout_seconds: float = 20.0
    most_backoff_seconds: float = 30.0
    unlock: str = "passphrase"  # or "parent": the pack's secret comes over the wire at each start


@dataclass(frozen=True)
class Home:
    """A node's folder, read and checked."""

    folder: Path
    config: NodeConfig
    identity: Identity
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    authority: x509.Certificate = field(repr=False)
    sealing: ec.EllipticCurvePublicKey = field(repr=False)
    centre: ec.EllipticCurvePublicKey = field(repr=False)

    @property
    def certificate_path(self) -> Path:
        return self.folder / "node.crt"

    @property
    def key_path(self) -> Path:
        return self.folder / "node.key"

    @property
    def crl_path(self) -> Path:
        return self.folder / "crl.pem"


def address(text: str) -> tuple[str, int]:
    """``host:port``.

    Raises:
        MedlakeError: E280, it is not.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise MedlakeError("E280", detail=f"address {text!r}")
    return host, int(port)


def _public(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise MedlakeError("E280", place=str(path), detail=type(error).__name__) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise MedlakeError("E280", place=str(path), detail="no P-256 key")
    return key


def load(folder: Path) -> Home:
    """Read a node's folder.

    Raises:
        MedlakeError: E280, something is missing, open to others, or contradicts the certificate.
    """
    try:
        told = yaml.safe_load((folder / "node.yaml").read_text("utf-8"))
        unknown = set(told) - {f.name for f in fields(NodeConfig)}
        config = NodeConfig(**told)
    except (OSError, yaml.YAMLError, TypeError) as error:
        raise MedlakeError("E280", place=str(folder), detail=f"node.yaml: {type(error).__name__}") from error
    if unknown:
        raise MedlakeError("E280", place=str(folder), detail=f"node.yaml: {sorted(unknown)}")
    if folder.stat().st_mode & 0o077:
        raise MedlakeError("E280", place=str(folder), detail="mode 0700")
    who = identity.of_certificate(identity.load_certificate(folder / "node.crt"))
    if (who.node, who.org_code, who.parent) != (config.node, config.org_code, config.parent):
        raise MedlakeError("E280", place=str(folder), detail="node.yaml and certificate differ")
    return Home(
        folder,
        config,
        who,
        identity.load_key(folder / "node.key"),
        identity.load_certificate(folder / "ca.crt"),
        _public(folder / "seal.pub"),
        _public(folder / "centre.pub"),
    )
