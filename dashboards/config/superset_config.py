"""Superset 6.1 for a hospital group without internet: Chinese, dark, cached on disk, one serving file.

Superset executes this file by path (SUPERSET_CONFIG_PATH); every upper-case name is a setting of it.
"""

import os
from datetime import timedelta
from typing import Any

from dashboards.config import chinese, kiosk, look, serving, surroundings

HOME = surroundings.home()

SECRET_KEY = surroundings.secret("SUPERSET_SECRET_KEY")
SQLALCHEMY_DATABASE_URI = surroundings.metadata_uri()
# Migrations log a line per step and reset every logger; the set-up prints its own progress.
ALEMBIC_SKIP_LOG_CONFIG = True
LOG_LEVEL = os.environ.get("SUPERSET_LOG_LEVEL", "WARNING")

# ---- Chinese and dark ------------------------------------------------------------------------------------
BABEL_DEFAULT_LOCALE = "zh"
LANGUAGES = chinese.LANGUAGES
D3_FORMAT = chinese.D3_FORMAT
D3_TIME_FORMAT = chinese.D3_TIME_FORMAT
CURRENCIES = ["CNY"]
APP_NAME = look.APP_NAME
THEME_DEFAULT = look.DARK_THEME
THEME_DARK = None
ENABLE_UI_THEME_ADMINISTRATION = True
EXTRA_CATEGORICAL_COLOR_SCHEMES = look.CATEGORICAL
EXTRA_SEQUENTIAL_COLOR_SCHEMES = look.SEQUENTIAL

# ---- the serving file ------------------------------------------------------------------------------------
DB_CONNECTION_MUTATOR = serving.resolve_link
JINJA_CONTEXT_ADDONS = {"serving_version": serving.version}
ROW_LIMIT = 50000
SQLLAB_TIMEOUT = 60
SUPERSET_WEBSERVER_TIMEOUT = 120


# ---- caches: files, shared by the workers; no Redis ------------------------------------------------------
def _cache(name: str, age: timedelta) -> dict[str, Any]:
    return {
        "CACHE_TYPE": "FileSystemCache",
        "CACHE_DIR": str(HOME / "cache" / name),
        "CACHE_THRESHOLD": 5000,
        "CACHE_DEFAULT_TIMEOUT": int(age.total_seconds()),
        "CACHE_KEY_PREFIX": f"{name}_",
    }


CACHE_CONFIG = _cache("meta", timedelta(hours=1))
# Answers are keyed by the version of the serving file (config/serving.py): they never go stale.
DATA_CACHE_CONFIG = _cache("data", timedelta(days=1))
FILTER_STATE_CACHE_CONFIG = _cache("filter", timedelta(days=30))
EXPLORE_FORM_DATA_CACHE_CONFIG = _cache("explore", timedelta(days=7))
RATELIMIT_STORAGE_URI = "memory://"

# ---- features --------------------------------------------------------------------------------------------
FEATURE_FLAGS = {
    "DASHBOARD_RBAC": True,
    "EMBEDDED_SUPERSET": True,
    "ENABLE_TEMPLATE_PROCESSING": True,
    "ENABLE_JAVASCRIPT_CONTROLS": False,
    # A wall shows everything at once; lazy drawing would leave what lies below the fold empty.
    "DASHBOARD_VIRTUALIZATION": False,
}
# "force" would bypass the cache on every tick of every wall.
DASHBOARD_AUTO_REFRESH_MODE = "fetch"
SUPERSET_DASHBOARD_PERIODICAL_REFRESH_LIMIT = 0
HTML_SANITIZATION = True
HTML_SANITIZATION_SCHEMA_EXTENSIONS = look.ALLOWED_HTML

# ---- doors -----------------------------------------------------------------------------------------------
WTF_CSRF_ENABLED = True
GUEST_ROLE_NAME = "EmbedGuest"
GUEST_TOKEN_JWT_SECRET = surroundings.secret("SUPERSET_GUEST_SECRET")
GUEST_TOKEN_JWT_EXP_SECONDS = 300
PERMANENT_SESSION_LIFETIME = timedelta(days=31)
SESSION_COOKIE_SAMESITE = "Lax"
# Another name than "session": the portal on another port of the same host has its own cookie.
SESSION_COOKIE_NAME = "medlake_wall"
TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "font-src": ["'self'", "data:"],
        # Handlebars compiles its templates in the browser.
        "script-src": ["'self'", "'strict-dynamic'", "'unsafe-eval'"],
        "frame-ancestors": ["'self'", *os.environ.get("SUPERSET_FRAME_ANCESTORS", "").split()],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": False,
    "frame_options": None,
}


def FLASK_APP_MUTATOR(app: Any) -> None:
    """Runs once when the application is made: the kiosk's door and the mended translations."""
    kiosk.register(app)
    chinese.mend(app, HOME)
