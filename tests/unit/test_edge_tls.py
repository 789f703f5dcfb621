"""The handshake: ours get in, the revoked, the expired-looking and strangers do not, also when the list came later."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from ingestion.edge import identity, pki, tls
from ingestion.edge.config import Home
from ingestion.edge.link import Link
from lake.errors import MedlakeError
from lake.settings import settings
from tests.edge_world import issue


@pytest.fixture
def authority(lake_home: Path) -> pki.Authority:
    return pki.init()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Both sides in memory; returns the server's. Raises ssl.SSLError as the side that refuses does."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    ours = client.wrap_bio(to_client, to_server)
    done: set[int] = set()
    while len(done) < 2:
        for n, side in ((0, ours), (1, theirs)):
            if n not in done:
                try:
                    side.do_handshake()
                    done.add(n)
                except ssl.SSLWantReadError:
                    continue
    return theirs


def test_the_caller_is_known_by_name(authority: pki.Authority, tmp_path: Path) -> None:
    home = issue(authority, tmp_path, "C201")
    found = handshake(tls.ServerContext.of(authority.place / "centre"), tls.client_context(home.folder))
    assert found.version() == "TLSv1.3"
    assert identity.of_der(found.getpeercert(binary_form=True) or b"").node == "C201"


def test_the_revoked_fail_once_the_list_is_loaded(authority: pki.Authority, tmp_path: Path) -> None:
    revoked, other = issue(authority, tmp_path, "C201"), issue(authority, tmp_path, "C202")
    context = tls.ServerContext.of(authority.place / "centre")
    handshake(context, tls.client_context(revoked.folder))
    authority.revoke("C201")
    context.renew()
    with pytest.raises(ssl.SSLError, match="revoked"):
        handshake(context, tls.client_context(revoked.folder))
    handshake(context, tls.client_context(other.folder))


def _foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A node of another installation's authority."""
    with monkeypatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(tmp_path / "elsewhere"))
        settings.cache_clear()
        home = issue(pki.init(), tmp_path / "theirs", "C201")
    settings.cache_clear()
    return home


def test_another_authoritys_node_fails(
    authority: pki.Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = _foreign(tmp_path, monkeypatch)
    client = tls.client_context(foreign.folder)
    client.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError):
        handshake(tls.ServerContext.of(authority.place / "centre"), client)


def test_who_has_no_certificate_fails(authority: pki.Authority) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError):
        handshake(tls.ServerContext.of(authority.place / "centre"), client)


class _Answers:
    """The end of a connection with this certificate."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    def getpeercert(self, binary_form: bool = False) -> bytes:
        return self._der


def test_a_node_talks_to_its_own_parent_alone(
    authority: pki.Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, other = issue(authority, tmp_path, "C201"), issue(authority, tmp_path, "C202")
    monkeypatch.setattr("ingestion.edge.link.ssl.SSLSocket", _Answers)
    link = Link(home)
    with pytest.raises(MedlakeError) as error:
        link._known(_Answers(ssl.PEM_cert_to_DER_cert(other.certificate_path.read_text())))
    assert error.value.code == "E281" and "C202" in error.value.en
    centre = _Answers(ssl.PEM_cert_to_DER_cert((authority.place / "centre" / "node.crt").read_text()))
    link._known(centre)
    authority.revoke("centre")
    home.crl_path.write_bytes(authority.crl())
    with pytest.raises(MedlakeError) as error:
        link._known(centre)
    assert error.value.code == "E281" and "revoked" in error.value.en
