"""A certificate authority of one test, a server certificate for 127.0.0.1, and a mosquitto password file."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make(folder: Path) -> None:
    """Write ``ca.pem``, ``server.pem`` and ``server.key`` (readable for the server that runs as nobody)."""
    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def builder(name: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("test ca"))
            .public_key(public)
        )
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))

    ca = builder("test ca", ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    server = builder("127.0.0.1", key.public_key()).add_extension(alternative, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (folder / "server.pem").write_bytes(server.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(plain)
    for path in folder.iterdir():
        path.chmod(0o644)


def password(path: Path, user: str, word: str) -> None:
    """A mosquitto password file with one user."""
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(path), user, word], check=True, capture_output=True)
    path.chmod(0o644)
