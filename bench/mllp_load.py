"""The senders of ``make bench-mllp``: a process of its own with many connections, one outstanding message each.

``python -m bench.mllp_load PORT CONNECTIONS MESSAGES OUT`` writes per acknowledged message its control id and the
seconds until its answer to OUT (JSON) and prints nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

#: Every so many-th report holds a critical potassium.
CRITICAL_EVERY = 100

_ITEMS = (
    ("14749-6", "葡萄糖", "mmol/L", "3.9-6.1", "5.6"),
    ("14647-2", "总胆固醇", "mmol/L", "2.8-5.2", "4.4"),
    ("14682-9", "肌酐", "umol/L", "41-111", "70"),
    ("6690-2", "白细胞", "10*9/L", "3.5-9.5", "6.1"),
)


def message(connection: int, number: int) -> tuple[str, bytes]:
    """A report of five results, about 900 bytes, as an LIS sends it; (control id, content)."""
    name = f"{connection:02d}{number:06d}"
    at = time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + 8 * 3600))
    potassium = "7.1" if number % CRITICAL_EVERY == 7 else "4.2"
    items = (("2823-3", "血钾", "mmol/L", "3.5-5.3", potassium), *_ITEMS)
    obx = "".join(
        f"OBX|{n}|NM|{code}^{zh}^LN||{value}|{unit}|{limits}|N|||F|||{at}\r"
        for n, (code, zh, unit, limits, value) in enumerate(items, 1)
    )
    text = (
        f"MSH|^~\\&|LIS|H101|MEDLAKE|GROUP|{at}||ORU^R01^ORU_R01|{name}|P|2.5.1||||||UNICODE UTF-8\r"
        f"PID|1||P{number % 20_000}^^^H101^MR||王小东||19580312|M|||湖东区解放路3号||13912345678\r"
        f"PV1|1|O|||||||||||||||||E{number}\r"
        f"OBR|1|O{name}^HIS|R{name}^LIS|BIO^生化^L|||{at}|||||||{at}||||||||{at}|||F\r{obx}"
    )
    return name, text.encode()


async def _send(port: int, connection: int, count: int, acked: dict[str, float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(count):
        name, content = message(connection, number)
        began = time.perf_counter()
        writer.write(b"\x0b" + content + b"\x1c\r")
        answer = await reader.readuntil(b"\x1c\r")
        if b"\rMSA|AA|" + name.encode() in answer:
            acked[name] = time.perf_counter() - began
    writer.close()


async def _all(port: int, connections: int, count: int) -> dict[str, float]:
    acked: dict[str, float] = {}
    await asyncio.gather(*(_send(port, c, count // connections, acked) for c in range(connections)))
    return acked


def main(port: int, connections: int, count: int, out: Path) -> None:
    began = time.perf_counter()
    acked = asyncio.run(_all(port, connections, count))
    out.write_text(json.dumps({"seconds": time.perf_counter() - began, "acked": acked}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
