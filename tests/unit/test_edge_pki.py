"""The authority: modes, identities, renewal, revocation, epochs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ingestion.edge import config, identity, pki
from ingestion.edge.parameters import parameter
from lake.errors import MedlakeError
from tests.edge_world import issue


@pytest.fixture
def authority(lake_home: Path) -> pki.Authority:
    return pki.init()


def test_keys_are_for_the_owner_alone(authority: pki.Authority, tmp_path: Path) -> None:
    home = issue(authority, tmp_path, "C201")
    for folder in (authority.place, authority.place / "centre", home.folder):
        assert folder.stat().st_mode & 0o077 == 0
        assert [p.name for p in folder.iterdir() if p.is_file() and p.stat().st_mode & 0o077] == []


def test_the_authority_is_never_overwritten(authority: pki.Authority) -> None:
    with pytest.raises(MedlakeError) as error:
        pki.init()
    assert error.value.code == "E293"


def test_there_must_be_an_authority(lake_home: Path) -> None:
    with pytest.raises(MedlakeError) as error:
        pki.Authority()
    assert error.value.code == "E293"


def test_a_certificate_says_who(authority: pki.Authority, tmp_path: Path) -> None:
    issue(authority, tmp_path, "C201")
    home = issue(authority, tmp_path, "C201S01-T1", "C201S01", "C201")
    who = home.identity
    assert (who.node, who.org_code, who.parent, who.is_centre) == ("C201S01-T1", "C201S01", "C201", False)


def test_certificates_bear_clocks_that_are_behind_and_live_shortly(
    authority: pki.Authority, tmp_path: Path
) -> None:
    made = identity.load_certificate(issue(authority, tmp_path, "C201").certificate_path)
    now = datetime.now(UTC)
    assert made.not_valid_before_utc < now - timedelta(hours=47)
    assert now + timedelta(hours=72) < made.not_valid_after_utc < now + timedelta(days=60)


@pytest.mark.parametrize(
    ("node", "org", "parent", "code"),
    [
        ("C201", "X999", "centre", "E285"),
        ("C201", "C201", "C202", "E292"),
        ("../C201", "C201", "centre", "E280"),
        ("C201S01T", "C201S01", "C201S01", "E285"),
    ],
)
def test_what_is_not_issued(
    authority: pki.Authority, tmp_path: Path, node: str, org: str, parent: str, code: str
) -> None:
    issue(authority, tmp_path, "H101")
    issue(authority, tmp_path, "C201S01", parent="H101")
    with pytest.raises(MedlakeError) as error:
        authority.issue(node, org, parent, out=tmp_path / "new")
    assert error.value.code == code


def test_a_folder_in_use_is_left_alone(authority: pki.Authority, tmp_path: Path) -> None:
    issue(authority, tmp_path, "C201")
    with pytest.raises(MedlakeError) as error:
        authority.issue("C201", "C201", out=tmp_path / "C201")
    assert error.value.code == "E280"


def test_revoking_puts_the_serial_on_a_signed_list(authority: pki.Authority, tmp_path: Path) -> None:
    home = issue(authority, tmp_path, "C201")
    assert identity.revoked_serials(authority.crl(), authority.certificate) == frozenset()
    assert authority.revoke("C201") == 1
    assert identity.revoked_serials(authority.crl(), authority.certificate) == {home.identity.serial}
    with pytest.raises(MedlakeError) as error:
        authority.revoke("C999")
    assert error.value.code == "E292"


def test_a_list_of_somebody_else_is_not_believed(authority: pki.Authority, tmp_path: Path) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    made = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    forged = made.last_update(now).next_update(now + timedelta(days=1)).sign(own, SHA256())
    with pytest.raises(MedlakeError) as error:
        identity.revoked_serials(forged.public_bytes(Encoding.PEM), authority.certificate)
    assert error.value.code == "E281"


def request(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "anything")])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )


def test_renewal_keeps_key_and_identity(authority: pki.Authority, tmp_path: Path) -> None:
    home = issue(authority, tmp_path, "C201")
    made = identity.of_certificate(x509.load_pem_x509_certificate(authority.renew("C201", request(home.key))))
    assert (made.node, made.org_code, made.parent) == ("C201", "C201", "centre")
    assert made.serial != home.identity.serial
    assert made.key.public_numbers() == home.identity.key.public_numbers()


def test_no_renewal_for_others_or_the_revoked(authority: pki.Authority, tmp_path: Path) -> None:
    home = issue(authority, tmp_path, "C201")
    with pytest.raises(MedlakeError) as error:
        authority.renew("C201", request(ec.generate_private_key(ec.SECP256R1())))
    assert error.value.code == "E281"
    authority.revoke("C201")
    with pytest.raises(MedlakeError) as error:
        authority.renew("C201", request(home.key))
    assert error.value.code == "E281"


def test_issuing_again_ends_the_earlier_identity(authority: pki.Authority, tmp_path: Path) -> None:
    first = issue(authority, tmp_path, "C201")
    before = authority.pack_secret("C201")
    second = issue(authority, tmp_path / "again", "C201")
    assert (first.config.epoch, second.config.epoch) == (1, 2)
    assert identity.revoked_serials(authority.crl(), authority.certificate) == {first.identity.serial}
    assert authority.register.member("C201").revoked_at is None
    assert authority.pack_secret("C201") != before


@pytest.mark.parametrize("what", ["key", "folder", "yaml", "other"])
def test_a_node_folder_that_cannot_be_used(authority: pki.Authority, tmp_path: Path, what: str) -> None:
    home = issue(authority, tmp_path, "C201")
    if what == "key":
        home.key_path.chmod(0o644)
    elif what == "folder":
        home.folder.chmod(0o755)
    elif what == "yaml":
        (home.folder / "node.yaml").write_text("node: C201\nunheard: of\n")
    else:
        other = issue(authority, tmp_path, "C202")
        home.certificate_path.write_bytes(other.certificate_path.read_bytes())
    with pytest.raises(MedlakeError) as error:
        config.load(home.folder)
    assert error.value.code == "E280"


def test_parameters_are_dated() -> None:
    day = datetime(2026, 11, 18, tzinfo=UTC).date()
    assert parameter("certificate_days", day) * 24 > 72
    assert parameter("certificate_days", day.replace(year=2020)) == parameter("certificate_days", day)
