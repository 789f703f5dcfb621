"""Accounts and roles. Who may see what: the wall, 院领导 and the kiosk's own account; the topics, 院领导."""

import secrets
from typing import Any

from dashboards.config import surroundings

EXECUTIVES = "院领导"
SCREENS = "大屏"
GUESTS = "EmbedGuest"

# What a page of a dashboard asks of the server, and nothing that changes anything.
_VIEW = {
    ("can_read", "Dashboard"),
    ("can_read", "Chart"),
    ("can_read", "Dataset"),
    ("can_read", "CssTemplate"),
    ("can_read", "EmbeddedDashboard"),
    ("can_get_embedded", "Dashboard"),
    ("can_dashboard", "Superset"),
    ("can_explore_json", "Superset"),
    ("can_read", "DashboardFilterStateRestApi"),
    ("can_write", "DashboardFilterStateRestApi"),
    ("can_read", "DashboardPermalinkRestApi"),
    ("can_language_pack", "Superset"),
    ("can_log", "Superset"),
    ("can_read", "CurrentUserRestApi"),
    ("can_time_range", "Api"),
    ("can_query_form_data", "Api"),
    ("can_list", "DynamicPlugin"),
    ("can_read", "Theme"),
    ("can_recent_activity", "Log"),
}
_EXPORT = {("can_csv", "Superset"), ("can_export", "Chart")}


def provide() -> None:
    """Roles with their permissions, the administrator with the password of now, the kiosk's account with none known."""
    from superset import db
    from superset import security_manager as sm

    screens = _role(SCREENS, _VIEW)
    _role(EXECUTIVES, _VIEW | _EXPORT)
    _role(GUESTS, _VIEW)
    password = surroundings.secret("SUPERSET_ADMIN_PASSWORD")
    admin = _user(surroundings.ADMIN, "管理员", sm.find_role("Admin"), password)
    sm.reset_password(admin.id, password)
    # Comes in through the kiosk's door only.
    _user(surroundings.KIOSK, "大屏", screens, secrets.token_urlsafe(32))
    db.session.commit()


def open_dashboards() -> None:
    """DASHBOARD_RBAC: the roles named on a dashboard see it, with the data of its charts and no other."""
    from superset import db
    from superset import security_manager as sm
    from superset.models.dashboard import Dashboard

    from dashboards.assets import topics, wall

    for slug, roles in {wall.SLUG: (EXECUTIVES, SCREENS, GUESTS), topics.SLUG: (EXECUTIVES, GUESTS)}.items():
        dashboard = db.session.query(Dashboard).filter_by(slug=slug).one()
        dashboard.roles = [sm.find_role(name) for name in roles]
    db.session.commit()


def _role(name: str, permissions: set[tuple[str, str]]) -> Any:
    from superset import security_manager as sm

    role = sm.find_role(name) or sm.add_role(name)
    for permission, view in sorted(permissions):
        found = sm.find_permission_view_menu(permission, view)
        if found and found not in role.permissions:
            sm.add_permission_role(role, found)
    return role


def _user(name: str, first_name: str, role: Any, password: str) -> Any:
    from superset import security_manager as sm

    return sm.find_user(username=name) or sm.add_user(
        name, first_name, "医湖", f"{name}@medlake.invalid", role, password=password
    )
