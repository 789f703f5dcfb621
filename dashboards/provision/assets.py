"""Import the wall: databases, datasets, charts and dashboards are overwritten by their UUID.

Of the importers of 6.1.0 only this command updates charts and datasets that exist; it knows nothing of themes, so
those go through their own command and are linked afterwards.
"""

from typing import Any

from dashboards.assets import bundle
from dashboards.config import serving, surroundings


def bring_in() -> int:
    """Import every document and remove charts and datasets of ours that the code no longer has; counts documents."""
    from superset import db, security_manager
    from superset.commands.importers.v1.assets import ImportAssetsCommand
    from superset.commands.theme.import_themes import ImportThemesCommand
    from superset.utils.core import override_user

    documents = bundle.documents(serving.uri(), serving.CONNECT_ARGS)
    themed = {d["uuid"]: d.pop("theme_uuid") for p, d in documents.items() if p.startswith("dashboards/")}
    themes = {p: bundle.dump(d) for p, d in documents.items() if p.startswith("themes/")}
    others = {p: bundle.dump(d) for p, d in documents.items() if not p.startswith("themes/")}
    with override_user(security_manager.find_user(username=surroundings.ADMIN)):
        ImportThemesCommand({"metadata.yaml": bundle.metadata("Theme"), **themes}, overwrite=True).run()
        ImportAssetsCommand({"metadata.yaml": bundle.metadata("assets"), **others}).run()
        _link_themes(themed)
        _remove_left_overs(documents)
        db.session.commit()
    return len(documents)


def _link_themes(themed: dict[str, str]) -> None:
    from superset import db
    from superset.models.core import Theme
    from superset.models.dashboard import Dashboard

    for dashboard_uuid, theme_uuid in themed.items():
        dashboard = db.session.query(Dashboard).filter_by(uuid=dashboard_uuid).one()
        dashboard.theme_id = db.session.query(Theme).filter_by(uuid=theme_uuid).one().id


def _remove_left_overs(documents: dict[str, dict[str, Any]]) -> None:
    """Charts on our database that no document describes and no dashboard shows; people's own dashboards keep theirs."""
    from superset import db
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.slice import Slice

    kept = {d["uuid"] for d in documents.values()}
    database = next(d["uuid"] for p, d in documents.items() if p.startswith("databases/"))
    for table in db.session.query(SqlaTable).filter(SqlaTable.database.has(uuid=database)):
        charts = db.session.query(Slice).filter_by(datasource_id=table.id, datasource_type="table").all()
        for chart in charts:
            if str(chart.uuid) not in kept and not chart.dashboards:
                db.session.delete(chart)
