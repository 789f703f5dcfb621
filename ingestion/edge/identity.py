"""Who a certificate speaks for: a node, its institution, its parent and its role are URNs in the certificate.

Identity is the node's name in the certificate, not a host name: addresses of institutions change, names do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ingestion.edge.crypto import fingerprint
from lake.errors import MedlakeError

#: Name of the centre as a parent.
CENTRE = "centre"

NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_URN = "urn:medlake:"


@dataclass(frozen=True)
class Identity:
    """What a certificate says. ``parent`` is empty for the centre itself."""

    node: str
    org_code: str
    parent: str
    serial: int
    key: ec.EllipticCurvePublicKey
    not_after: float  # seconds since 1970, UTC

    @property
    def is_centre(self) -> bool:
        return self.node == CENTRE


def urns(node: str, org_code: str, parent: str) -> list[x509.GeneralName]:
    """The names that a certificate of this node carries."""
    pairs = {"node": node, "org": org_code, "parent": parent}
    return [x509.UniformResourceIdentifier(f"{_URN}{k}:{v}") for k, v in pairs.items()]


def of_certificate(certificate: x509.Certificate) -> Identity:
    """Raises MedlakeError E281, the certificate is not one of ours."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise MedlakeError("E281", detail="no names") from error
    found: dict[str, str] = {}
    for name in names.get_values_for_type(x509.UniformResourceIdentifier):
        if name.startswith(_URN):
            kind, _, value = name.removeprefix(_URN).partition(":")
            found[kind] = value
    key = certificate.public_key()
    if not {"node", "org", "parent"} <= set(found) or not isinstance(key, ec.EllipticCurvePublicKey):
        raise MedlakeError("E281", detail="no node")
    until = certificate.not_valid_after_utc.timestamp()
    return Identity(found["node"], found["org"], found["parent"], certificate.serial_number, key, until)


def of_der(der: bytes) -> Identity:
    return of_certificate(x509.load_der_x509_certificate(der))


def revoked_serials(crl: bytes, authority: x509.Certificate) -> frozenset[int]:
    """Serial numbers on a revocation list.

    Raises:
        MedlakeError: E281, the list was not signed by our authority.
    """
    found = x509.load_pem_x509_crl(crl)
    key = authority.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not found.is_signature_valid(key):
        raise MedlakeError("E281", detail="revocation list")
    return frozenset(entry.serial_number for entry in found)


def verify(key: ec.EllipticCurvePublicKey, signature: bytes, content: bytes) -> bool:
    """Whether this key signed this content (ECDSA, SHA-256)."""
    try:
        key.verify(signature, content, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def sign(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    return key.sign(content, ec.ECDSA(SHA256()))


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Raises MedlakeError E280, no such key, or it is open to others."""
    try:
        mode = path.stat().st_mode & 0o077
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise MedlakeError("E280", place=str(path), detail=type(error).__name__) from error
    if mode or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MedlakeError("E280", place=str(path), detail="mode 0600" if mode else "no P-256 key")
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """Raises MedlakeError E280, there is none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise MedlakeError("E280", place=str(path), detail=type(error).__name__) from error


__all__ = ["CENTRE", "NODE_NAME", "Identity", "fingerprint"]
