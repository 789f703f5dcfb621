"""Keys of edge nodes: what is sealed opens only with its own key, unchanged, for its own purpose."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec

from ingestion.edge.crypto import DataKey, Opener, derive, envelope, lock, open_envelope, unlock
from lake.crypto import sm4_open, sm4_seal
from lake.errors import MedlakeError


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_sm4_gcm_known_answer() -> None:
    """RFC 8998, appendix A.1."""
    secret = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    nonce = bytes.fromhex("00001234567800000000ABCD")
    bound = bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
    plain = bytes.fromhex(
        "AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCCDDDDDDDDDDDDDDDDEEEEEEEEEEEEEEEEFFFFFFFFFFFFFFFFEEEEEEEEEEEEEEEEAAAAAAAAAAAAAAAA"
    )
    sealed = bytes.fromhex(
        "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
        "83DE3541E4C2B58177E065A9BF7B62EC"
    )
    assert sm4_open(secret, nonce + sealed, bound) == plain


@pytest.mark.parametrize("at", [0, 12, 20, -1])
def test_a_changed_byte_does_not_open(at: int) -> None:
    sealed = bytearray(sm4_seal(b"k" * 16, b"content of a record", b"node"))
    sealed[at] ^= 1
    with pytest.raises(InvalidTag):
        sm4_open(b"k" * 16, bytes(sealed), b"node")


def test_a_short_text_does_not_open() -> None:
    with pytest.raises(InvalidTag):
        sm4_open(b"k" * 16, b"short", b"")


def test_the_same_text_is_never_sealed_alike() -> None:
    assert len({sm4_seal(b"k" * 16, b"x") for _ in range(100)}) == 100


def test_an_envelope_opens_for_its_key_and_purpose_alone() -> None:
    own = key()
    sealed = envelope(own.public_key(), b"secret", b"pack")
    assert open_envelope(own, sealed, b"pack") == b"secret"
    for other, bound in ((key(), b"pack"), (own, b"data-key")):
        with pytest.raises(MedlakeError) as error:
            open_envelope(other, sealed, bound)
        assert error.value.code == "E288"
    with pytest.raises(MedlakeError):
        open_envelope(own, b"\x04" + b"\x00" * 120, b"pack")


def test_a_payload_opens_with_old_sealing_keys_too() -> None:
    old, new = key(), key()
    made = DataKey.fresh("C201", old.public_key())
    payload = sm4_seal(made.key, b"x", b"C201|1")
    assert Opener([old, new]).open("C201", made.wrapped, payload, b"C201|1") == b"x"
    with pytest.raises(MedlakeError):
        Opener([new]).open("C201", made.wrapped, payload, b"C201|1")
    with pytest.raises(MedlakeError):  # another node's name
        Opener([old, new]).open("C202", made.wrapped, payload, b"C201|1")


def test_a_passphrase_locks() -> None:
    locked = lock("医湖2026", b"s" * 32)
    assert unlock("医湖2026", locked) == b"s" * 32
    with pytest.raises(MedlakeError) as error:
        unlock("医湖2025", locked)
    assert error.value.code == "E291"
    assert lock("医湖2026", b"s" * 32) != locked


def test_keys_of_different_purposes_differ() -> None:
    assert len({derive(b"s" * 32, p) for p in ("pack-rest", "pack-wire", "pack-index", "envelope")}) == 4
