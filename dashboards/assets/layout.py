"""Superset's grid as nested rows and columns: 12 columns wide, heights in units of 8 px."""

from dataclasses import dataclass
from typing import Any

from dashboards.assets.charts import Chart

Node = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A chart with its width in columns and height in units."""

    chart: Chart
    width: int
    height: int


@dataclass(frozen=True)
class Column:
    """Things one above the other: charts, or rows of charts."""

    width: int
    items: list["Place | list[Place]"]


def position(title: str, rows: list[list[Place | Column]]) -> dict[str, Any]:
    """The `position` document of a dashboard."""
    nodes: dict[str, Any] = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
        "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": title}},
    }
    parents = ["ROOT_ID", "GRID_ID"]
    children = [_row(f"ROW-{i}", row, parents, nodes) for i, row in enumerate(rows)]
    nodes["GRID_ID"] = {"type": "GRID", "id": "GRID_ID", "children": children, "parents": ["ROOT_ID"]}
    return nodes


def _row(name: str, items: list[Any], parents: list[str], nodes: dict[str, Node]) -> str:
    inside = [*parents, name]
    children = []
    for i, item in enumerate(items):
        if isinstance(item, Column):
            children.append(_column(f"COLUMN-{name}-{i}", item, inside, nodes))
        else:
            children.append(_chart(item, inside, nodes))
    nodes[name] = _node("ROW", name, children, parents, {"background": "BACKGROUND_TRANSPARENT"})
    return name


def _column(name: str, column: Column, parents: list[str], nodes: dict[str, Node]) -> str:
    inside = [*parents, name]
    children = []
    for i, item in enumerate(column.items):
        if isinstance(item, list):
            children.append(_row(f"ROW-{name}-{i}", item, inside, nodes))
        else:
            children.append(_chart(item, inside, nodes))
    meta = {"width": column.width, "background": "BACKGROUND_TRANSPARENT"}
    nodes[name] = _node("COLUMN", name, children, parents, meta)
    return name


def _chart(place: Place, parents: list[str], nodes: dict[str, Node]) -> str:
    name = f"CHART-{place.chart.key}"
    meta = {
        # Superset replaces the id by that of the chart with this uuid.
        "chartId": 1,
        "uuid": place.chart.uuid,
        "sliceName": place.chart.title,
        "width": place.width,
        "height": place.height,
    }
    nodes[name] = _node("CHART", name, [], parents, meta)
    return name


def _node(kind: str, name: str, children: list[str], parents: list[str], meta: Node) -> Node:
    return {"type": kind, "id": name, "children": children, "parents": parents, "meta": meta}
