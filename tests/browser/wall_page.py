"""Reads the wall as a person sees it: one method per tile, over the hooks that the tiles carry."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page, sync_playwright

TILES = ("banner", "kpi", "trend", "ranking", "district", "heat", "referral", "gate", "ledger", "alert")
WAIT_MS = 120_000


@contextmanager
def browser_page(width: int = 1920, height: int = 1080) -> Iterator[Page]:
    """A page of Debian's Chromium, of the wall's size."""
    executable = shutil.which("chromium")
    assert executable, "chromium is missing: `make test-deps` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield browser.new_page(viewport={"width": width, "height": height}, locale="zh-CN")
        finally:
            browser.close()


@dataclass
class WallPage:
    """An open wall. `requests` are the addresses that the page asked for, refused ones left out."""

    page: Page
    requests: list[str]

    @classmethod
    def open(cls, page: Page, url: str) -> "WallPage":
        """Open the wall (kiosk link, or the dashboard after a login) and wait until every tile is drawn."""
        wall = cls(page, [])
        page.on("requestfinished", lambda request: wall.requests.append(request.url))
        page.goto(url)
        wall.wait()
        return wall

    def wait(self) -> None:
        for tile in TILES:
            self.page.wait_for_selector(f'[data-tile="{tile}"]', timeout=WAIT_MS)

    def reload(self) -> None:
        self.page.reload()
        self.wait()

    def _rows(self, selector: str, read: str) -> list[Any]:
        rows: list[Any] = self.page.eval_on_selector_all(selector, f"rows => rows.map(e => ({read}))")
        return rows

    def tile_text(self, tile: str) -> str:
        return self.page.inner_text(f'[data-tile="{tile}"]')

    def kpis(self) -> dict[str, tuple[float, str]]:
        """Card -> raw value and the text shown (number and unit)."""
        rows = self._rows(
            '[data-tile="kpi"] [data-kpi]',
            "[e.dataset.kpi, e.dataset.value, e.querySelector('.kpi-value').innerText.replace(/\\s/g, '')]",
        )
        return {code: (float(value), shown) for code, value, shown in rows}

    def ranking(self) -> list[tuple[str, int, str]]:
        """Institution, raw number and number shown, from the top."""
        rows = self._rows(
            '[data-tile="ranking"] [data-org]',
            "[e.dataset.org, e.dataset.value, e.querySelector('.rank-value').innerText]",
        )
        return [(org, int(value), shown) for org, value, shown in rows]

    def districts(self) -> dict[str, str]:
        """Centre -> rate as shown on the map."""
        return dict(
            self._rows(
                '[data-tile="district"] [data-org]',
                "[e.dataset.org, e.querySelector('.map-rate').textContent]",
            )
        )

    def gates(self) -> dict[str, dict[str, str]]:
        """Product -> gate ("open", "closed"), the date shown and the reason shown."""
        rows = self._rows(
            '[data-tile="gate"] [data-product]',
            "[e.dataset.product, e.dataset.gate, e.querySelector('.gate-date').innerText,"
            " (e.querySelector('.gate-reason') || {innerText: ''}).innerText]",
        )
        return {
            product: {"gate": gate, "date": date, "reason": reason} for product, gate, date, reason in rows
        }

    def ledger(self) -> dict[str, int]:
        rows = self._rows('[data-tile="ledger"] [data-ledger]', "[e.dataset.ledger, e.innerText]")
        return {name: int(shown.replace(",", "")) for name, shown in rows}

    def closed_banner(self) -> list[str]:
        """Texts of the red strip, one per closed product; empty when all gates are open."""
        return self._rows("[data-closed]", "e.textContent")

    def overflowing(self) -> list[str]:
        """Tiles whose drawing does not fit the frame: what a person would see cut off."""
        return self._rows(
            "[data-tile], [data-product]",
            "[e.dataset.tile || e.dataset.product, e.scrollHeight > e.clientHeight + 2 || e.scrollWidth > e.clientWidth + 2]",
        )
