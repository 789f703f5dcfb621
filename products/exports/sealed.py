"""Files that leave the group: SM4 under a password, opened on the recipient's PC by one HTML page (``opener.html``).

Layout: ``MLSM4`` 0x01, salt 16, counter block 16, rounds (4 bytes, big-endian), SM4-CTR text, HMAC-SM3 of all before.
Keys: PBKDF2-HMAC-SM3 of the password, 16 bytes for SM4 and 32 for the HMAC (encrypt, then authenticate).
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SM3
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from lake.errors import MedlakeError

MAGIC = b"MLSM4\x01"
OPENER = Path(__file__).with_name("opener.html")

#: PBKDF2 rounds: about a second in a browser's plain JavaScript; the length of the password does the rest.
ROUNDS = 50_000
PASSWORD_LENGTH = 12
_BLOCK = 1 << 20
_HEAD = len(MAGIC) + 16 + 16 + 4


def check_password(password: str) -> None:
    """Refuse a password that is too short.

    Raises:
        MedlakeError: E636.
    """
    if len(password) < PASSWORD_LENGTH:
        raise MedlakeError("E636")


def _keys(password: str, salt: bytes, rounds: int) -> tuple[bytes, bytes]:
    made = PBKDF2HMAC(SM3(), 48, salt, rounds).derive(password.encode())
    return made[:16], made[16:]


def seal(source: Path, target: Path, password: str, rounds: int = ROUNDS) -> None:
    """Encrypt a file, a block at a time.

    Raises:
        MedlakeError: E636, the password is too short.
    """
    check_password(password)
    salt, counter = os.urandom(16), os.urandom(16)
    key, mac_key = _keys(password, salt, rounds)
    cipher, mac = Cipher(algorithms.SM4(key), modes.CTR(counter)).encryptor(), HMAC(mac_key, SM3())
    head = MAGIC + salt + counter + rounds.to_bytes(4, "big")
    mac.update(head)
    with source.open("rb") as plain, target.open("wb") as sealed:
        sealed.write(head)
        while block := plain.read(_BLOCK):
            text = cipher.update(block)
            mac.update(text)
            sealed.write(text)
        sealed.write(mac.finalize())


def unseal(content: bytes, password: str) -> bytes:
    """What :func:`seal` sealed.

    Raises:
        MedlakeError: E629 the password is wrong or the file was changed.
    """
    if len(content) < _HEAD + 32 or not content.startswith(MAGIC):
        raise MedlakeError("E629", place="sm4", detail="不是加密导出文件 / not a sealed export")
    salt, counter, rounds = content[6:22], content[22:38], int.from_bytes(content[38:42], "big")
    key, mac_key = _keys(password, salt, min(max(rounds, 1), 1_000_000))
    mac = HMAC(mac_key, SM3())
    mac.update(content[:-32])
    try:
        mac.verify(content[-32:])
    except InvalidSignature:
        raise MedlakeError(
            "E629", place="sm4", detail="口令错误或文件被改动 / wrong password or changed file"
        ) from None
    cipher = Cipher(algorithms.SM4(key), modes.CTR(counter)).decryptor()
    return cipher.update(content[_HEAD:-32]) + cipher.finalize()
