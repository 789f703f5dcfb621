"""What only the centre can open: data keys live in memory, and on disk only wrapped to the centre's public key.

Each start of a node makes a fresh SM4 data key and wraps it by ECDH (P-256, an ephemeral key) and SM3. So a node can
take input after a power cut without anybody's help, and neither it nor a thief of its disk can read its spool.
The same envelope carries a pack's secret down to a node. SM2 would take the place of P-256 where OpenSSL's TLS and
ECDH offer it; certificates and TLS here stay on P-256 (see the decision record).
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SM3
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lake.crypto import sm3_hex, sm4_open, sm4_seal
from lake.errors import MedlakeError

_CURVE = ec.SECP256R1
_POINT = 65  # uncompressed point of P-256

#: scrypt's cost: about 64 MB and a tenth of a second for a guess.
_SCRYPT = {"n": 1 << 16, "r": 8, "p": 1}


def derive(secret: bytes, purpose: str, length: int = 16) -> bytes:
    """A key for one purpose (HKDF with HMAC-SM3)."""
    return HKDF(SM3(), length, salt=None, info=b"medlake-edge " + purpose.encode()).derive(secret)


def envelope(to: ec.EllipticCurvePublicKey, secret: bytes, bound: bytes) -> bytes:
    """Seal a short secret so that only the holder of the private key can open it."""
    own = ec.generate_private_key(_CURVE())
    point = own.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = derive(own.exchange(ec.ECDH(), to) + point, "envelope")
    return point + sm4_seal(key, secret, bound)


def open_envelope(key: ec.EllipticCurvePrivateKey, sealed: bytes, bound: bytes) -> bytes:
    """What ``envelope`` sealed.

    Raises:
        MedlakeError: E288, made for another key, for another purpose, or changed.
    """
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE(), sealed[:_POINT])
        shared = derive(key.exchange(ec.ECDH(), point) + sealed[:_POINT], "envelope")
        return sm4_open(shared, sealed[_POINT:], bound)
    except (InvalidTag, ValueError) as error:
        raise MedlakeError("E288", detail=type(error).__name__) from error


@dataclass(frozen=True)
class DataKey:
    """A data key of one node: ``wrapped`` is all that ever leaves memory."""

    key: bytes
    wrapped: str

    @classmethod
    def fresh(cls, node: str, centre: ec.EllipticCurvePublicKey) -> DataKey:
        key = os.urandom(16)
        sealed = envelope(centre, key, b"data-key " + node.encode())
        return cls(key, base64.b64encode(sealed).decode())


class Opener:
    """The centre's side: opens payloads of any node, remembering the keys it unwrapped."""

    def __init__(self, keys: list[ec.EllipticCurvePrivateKey]) -> None:
        self._keys = keys
        self._unwrap = lru_cache(maxsize=4096)(self._unwrapped)

    def _unwrapped(self, node: str, wrapped: str) -> bytes:
        sealed = base64.b64decode(wrapped)
        for key in self._keys[:-1]:  # older sealing keys of the centre
            try:
                return open_envelope(key, sealed, b"data-key " + node.encode())
            except MedlakeError:
                continue
        return open_envelope(self._keys[-1], sealed, b"data-key " + node.encode())

    def open(self, node: str, wrapped: str, payload: bytes, bound: bytes) -> bytes:
        """Raises MedlakeError E288 when key or payload are not what the node made."""
        try:
            return sm4_open(self._unwrap(node, wrapped), payload, bound)
        except (InvalidTag, ValueError) as error:
            raise MedlakeError("E288", place=node, detail=type(error).__name__) from error


def lock(passphrase: str, secret: bytes) -> bytes:
    """Wrap a secret by a passphrase: salt, then SM4-GCM under scrypt's key."""
    salt = os.urandom(16)
    return salt + sm4_seal(_stretched(passphrase, salt), secret, b"passphrase")


def unlock(passphrase: str, locked: bytes) -> bytes:
    """Raises MedlakeError E291, the passphrase is wrong."""
    try:
        return sm4_open(_stretched(passphrase, locked[:16]), locked[16:], b"passphrase")
    except InvalidTag as error:
        raise MedlakeError("E291") from error


def _stretched(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=16, **_SCRYPT).derive(passphrase.encode())


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """A public key's short name: SM3 of its point, 16 digits."""
    return sm3_hex(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))[:16]
