"""The recipient's page opens in Chromium, offline, what the platform sealed; a wrong password opens nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from lake.errors import MedlakeError
from products.exports import sealed

WORD = "湖水-三月-青山-0042"


def test_sealed_and_opened(tmp_path: Path) -> None:
    plain = tmp_path / "名册.xlsx"
    plain.write_bytes(bytes(range(256)) * 41 + b"tail")
    out = tmp_path / "名册.xlsx.sm4"
    sealed.seal(plain, out, WORD, rounds=200)
    assert sealed.unseal(out.read_bytes(), WORD) == plain.read_bytes()
    with pytest.raises(MedlakeError, match="E636"):
        sealed.seal(plain, out, "short")
    changed = bytearray(out.read_bytes())
    changed[60] ^= 1
    with pytest.raises(MedlakeError, match="E629"):
        sealed.unseal(bytes(changed), WORD)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium")
        try:
            context = browser.new_context(offline=True)
            page = context.new_page()
            page.goto(sealed.OPENER.as_uri())
            page.set_input_files("#file", out)
            page.fill("#word", "not the password")
            page.click("#go")
            page.get_by_text("口令错误").wait_for()
            page.fill("#word", WORD)
            with page.expect_download() as saved:
                page.click("#go")
            assert Path(saved.value.path()).read_bytes() == plain.read_bytes()
            assert saved.value.suggested_filename == plain.name
        finally:
            browser.close()
