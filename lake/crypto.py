"""SM3 and HMAC-SM3 (GB/T 32905), SM4-GCM (GB/T 32907), through OpenSSL. Keys lie under ``home/secrets`` (mode 0600)."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SM3, Hash
from cryptography.hazmat.primitives.hmac import HMAC

from lake.settings import settings


def sm3_hex(data: bytes) -> str:
    """SM3 of bytes as 64 hexadecimal digits."""
    digest = Hash(SM3())
    digest.update(data)
    return digest.finalize().hex()


def sm3_lines(parts: Iterable[Sequence[str]]) -> tuple[int, str]:
    """Number and SM3 of lines that come in parts, a newline between any two."""
    digest, count = Hash(SM3()), 0
    for part in parts:
        if part:
            digest.update((("\n" if count else "") + "\n".join(part)).encode())
            count += len(part)
    return count, digest.finalize().hex()


def sm3_file(path: Path) -> str:
    """SM3 of a file's content."""
    digest = Hash(SM3())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.finalize().hex()


def secret(name: str, length: int = 32) -> bytes:
    """A key of this installation, made on first use; two processes that ask at once get the same one."""
    directory = settings().secrets_dir
    settings().folder()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = directory / f"{name}.key"
    if not target.exists():
        draft = directory / f".{name}.{os.getpid()}"
        draft.write_bytes(os.urandom(length))
        draft.chmod(0o600)
        try:
            os.link(draft, target)
        except FileExistsError:
            pass
        draft.unlink()
    return target.read_bytes()


@lru_cache(maxsize=16)
def _keyed(home: str, domain: str) -> HMAC:
    return HMAC(secret("token") + domain.encode(), SM3())


def token(domain: str, value: str) -> str:
    """A pseudonym: 26 base32 characters of HMAC-SM3 under this installation's key, one key space per domain."""
    keyed = _keyed(str(settings().home), domain).copy()
    keyed.update(value.encode())
    return base64.b32encode(keyed.finalize()[:16]).decode().rstrip("=")


def token_column(domain: str, values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Pseudonyms of a column; nulls stay null.

    The loop is over distinct values and each step is a call into OpenSSL (about 2 us): there is no set form of that.
    """
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    encoded = array.dictionary_encode()
    distinct, keyed = encoded.dictionary, _keyed(str(settings().home), domain)
    parts = []
    for start in range(0, len(distinct), _CHUNK):
        digests = bytearray()
        for value in distinct.slice(start, _CHUNK).to_pylist():
            one = keyed.copy()
            one.update(value.encode())
            digests += one.finalize()[:16]
        parts.append(_base32(digests))
    known = pa.concat_arrays(parts) if parts else pa.array([], pa.string())
    return known.take(encoded.indices)


#: Pseudonyms that are turned into text at once.
_CHUNK = 100_000
_BASE32 = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", np.uint8)


def _base32(digests: bytearray) -> pa.Array:
    """Digests of 16 bytes, one after another, as 26 characters each (RFC 4648, without padding)."""
    count = len(digests) // 16
    bits = np.zeros((count, 130), np.uint8)
    bits[:, :128] = np.unpackbits(np.frombuffer(digests, np.uint8).reshape(count, 16), axis=1)
    fives = bits.reshape(count, 26, 5) @ np.array([16, 8, 4, 2, 1], np.uint8)
    offsets = np.arange(count + 1, dtype=np.int32) * 26
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(_BASE32[fives].tobytes()))


_NONCE, _TAG = 12, 16


def sm4_seal(key: bytes, plain: bytes, bound: bytes = b"") -> bytes:
    """SM4-GCM under a 16-byte key: nonce, ciphertext, tag. ``bound`` is not in it, but must be the same to open it.

    The nonce is random, so one key may seal up to about 2^32 texts.
    """
    nonce = os.urandom(_NONCE)
    cipher = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    cipher.authenticate_additional_data(bound)
    return nonce + cipher.update(plain) + cipher.finalize() + cipher.tag


def sm4_open(key: bytes, sealed: bytes, bound: bytes = b"") -> bytes:
    """What ``sm4_seal`` sealed.

    Raises:
        cryptography.exceptions.InvalidTag: another key, another ``bound``, or the text was changed.
    """
    nonce, tag = sealed[:_NONCE], sealed[-_TAG:]
    if len(sealed) < _NONCE + _TAG:
        raise InvalidTag
    cipher = Cipher(algorithms.SM4(key), modes.GCM(nonce, tag)).decryptor()
    cipher.authenticate_additional_data(bound)
    return cipher.update(memoryview(sealed)[_NONCE:-_TAG]) + cipher.finalize()
