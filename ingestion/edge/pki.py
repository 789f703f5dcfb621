"""The edge nodes' own certificate authority: X.509, ECDSA on P-256, short-lived certificates, a revocation list.

It lies under ``secrets/edge-ca`` (mode 0700) at the centre: ``ca.key``, ``ca.crt``, the centre's sealing keys, the
secret that packs' keys come from, and the register.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ingestion.edge import identity
from ingestion.edge.crypto import derive, fingerprint, lock
from ingestion.edge.identity import CENTRE, NODE_NAME
from ingestion.edge.parameters import parameter
from ingestion.edge.register import Member, Register
from lake import registry
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings

_log = logger("edge")
_KEY_USES = [x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.SERVER_AUTH]


def folder() -> Path:
    return settings().secrets_dir / "edge-ca"


def write_secret(path: Path, content: bytes) -> None:
    """A new file of mode 0600; one that is there is replaced whole."""
    draft = path.with_name(f".{path.name}.draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _name(common: str) -> x509.Name:
    oid = x509.NameOID
    return x509.Name(
        [x509.NameAttribute(oid.ORGANIZATION_NAME, "Medlake"), x509.NameAttribute(oid.COMMON_NAME, common)]
    )


def _hosts(hosts: list[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return found


def init() -> Authority:
    """Make the authority and the centre's own certificate.

    Raises:
        MedlakeError: E293, there is one already.
    """
    settings().folder()
    place = folder()
    if (place / "ca.crt").exists():
        raise MedlakeError("E293", place=str(place), detail="exists")
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_name("Medlake edge CA"))
        .issuer_name(_name("Medlake edge CA"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=7))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    sealing = ec.generate_private_key(ec.SECP256R1())
    write_secret(place / "ca.key", private_pem(key))
    write_secret(place / f"seal-{fingerprint(sealing.public_key())}.key", private_pem(sealing))
    write_secret(place / "pack.secret", os.urandom(32))
    write_secret(place / "ca.crt", made.public_bytes(Encoding.PEM))
    authority = Authority(place)
    authority.issue(CENTRE, settings().default_org_code, "", ["127.0.0.1", "localhost"], out=place / CENTRE)
    return authority


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """Raises MedlakeError E293 when ``medlake edge ca init`` was not run."""

    def __init__(self, place: Path | None = None) -> None:
        self.place = place or folder()
        if not (self.place / "ca.crt").exists():
            raise MedlakeError("E293", place=str(self.place), detail="missing")
        self.certificate = identity.load_certificate(self.place / "ca.crt")
        self._key = identity.load_key(self.place / "ca.key")
        self.register = Register(self.place / "register.db")

    def sealing_keys(self) -> list[ec.EllipticCurvePrivateKey]:
        """The centre's keys that open spools, oldest first; nodes seal to the newest."""
        paths = sorted(self.place.glob("seal-*.key"), key=lambda p: p.stat().st_mtime_ns)
        return [identity.load_key(p) for p in paths]

    def pack_secret(self, node: str) -> bytes:
        """The secret of a node's pack; it follows from the authority's own, so it is stored nowhere else."""
        issued = self.register.member(node).issued_at.isoformat()
        return derive((self.place / "pack.secret").read_bytes(), f"pack {node} {issued}", 32)

    def _certificate(
        self, node: str, org: str, parent: str, key: ec.EllipticCurvePublicKey, hosts: list[str]
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        names = identity.urns(node, org, parent) + _hosts(hosts)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(node))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=parameter("clock_tolerance_hours", now.date())))
            .not_valid_after(now + timedelta(days=parameter("certificate_days", now.date())))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_KEY_USES), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, SHA256())
        )

    def issue(
        self,
        node: str,
        org: str,
        parent: str = CENTRE,
        hosts: list[str] | None = None,
        *,
        out: Path,
        parent_address: str = "127.0.0.1:8443",
        passphrase: str = "",
        settings_of_node: dict[str, object] | None = None,
    ) -> Path:
        """Make a node's folder: key, certificate, what it needs to trust, ``node.yaml``. Issuing again makes a new identity.

        Raises:
            MedlakeError: E280 a folder that is not empty or a bad name; E285 an institution or a parent that is not there.
        """
        if not NODE_NAME.fullmatch(node) or (out.exists() and any(out.iterdir())):
            raise MedlakeError("E280", place=str(out), detail=f"{node}: name or folder in use")
        if org not in registry.org_codes():
            raise MedlakeError("E285", place=node, detail=f"institution {org}")
        if parent not in ("", CENTRE) and self.register.member(parent).parent != CENTRE:
            raise MedlakeError("E285", place=node, detail=f"parent {parent} is not directly below the centre")
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        out.chmod(0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._certificate(node, org, parent, key.public_key(), hosts or ["127.0.0.1", "localhost"])
        member = Member(node, org, parent, datetime.now(UTC), None)
        pem = made.public_bytes(Encoding.PEM)
        self.register.revoke(node, member.issued_at)  # an earlier identity of the same name ends here
        epoch = self.register.add(
            member, made.serial_number, fingerprint(key.public_key()), pem, made.not_valid_after_utc
        )
        write_secret(out / "node.key", private_pem(key))
        write_secret(out / "node.crt", pem)
        write_secret(out / "ca.crt", self.certificate.public_bytes(Encoding.PEM))
        write_secret(out / "crl.pem", self.crl())
        if node != CENTRE:
            write_secret(out / "seal.pub", public_pem(self.sealing_keys()[-1].public_key()))
            centre = identity.load_certificate(self.place / CENTRE / "node.crt").public_key()
            assert isinstance(centre, ec.EllipticCurvePublicKey)
            write_secret(out / "centre.pub", public_pem(centre))
            if passphrase:
                write_secret(out / "pack.locked", lock(passphrase, self.pack_secret(node)))
            told: dict[str, object] = {
                "node": node,
                "org_code": org,
                "parent": parent,
                "parent_address": parent_address,
            }
            told["epoch"] = epoch
            write_secret(
                out / "node.yaml",
                yaml.safe_dump(told | (settings_of_node or {}), allow_unicode=True).encode(),
            )
        _log.info("edge_issued", org_code=org, status=node)
        return out

    def renew(self, node: str, request: bytes) -> bytes:
        """A new certificate for the same key, from a signing request.

        Raises:
            MedlakeError: E281, revoked, another key, or no valid request.
        """
        member = self.register.member(node)
        asked = x509.load_pem_x509_csr(request)
        key = asked.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not asked.is_signature_valid:
            raise MedlakeError("E281", place=node, detail="signing request")
        keys = {k: (pem, revoked) for k, pem, revoked in reversed(self.register.keys(node))}
        pem, revoked = keys.get(fingerprint(key), (b"", None))
        if not pem or revoked or member.revoked_at:
            raise MedlakeError("E281", place=node, detail="revoked")
        names = (
            x509.load_pem_x509_certificate(pem)
            .extensions.get_extension_for_class(x509.SubjectAlternativeName)
            .value
        )
        hosts = [
            *names.get_values_for_type(x509.DNSName),
            *map(str, names.get_values_for_type(x509.IPAddress)),
        ]
        made = self._certificate(node, member.org_code, member.parent, key, hosts)
        new = made.public_bytes(Encoding.PEM)
        self.register.renewed(node, made.serial_number, fingerprint(key), new, made.not_valid_after_utc)
        _log.info("edge_renewed", status=node)
        return new

    def revoke(self, node: str) -> int:
        """Close a node out: its certificates go on the list. Returns how many did."""
        self.register.member(node)
        done = self.register.revoke(node, datetime.now(UTC))
        write_secret(self.place / CENTRE / "crl.pem", self.crl())
        _log.warning("edge_revoked", status=node, count=done)
        return done

    def crl(self) -> bytes:
        """The revocation list of this moment, PEM."""
        now = datetime.now(UTC)
        made = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - timedelta(hours=parameter("clock_tolerance_hours", now.date())))
            .next_update(now + timedelta(days=parameter("revocation_list_days", now.date())))
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        )
        for serial, at in self.register.revoked():
            gone = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
            made = made.add_revoked_certificate(gone.build())
        return made.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
