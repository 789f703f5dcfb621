"""Every setting of the platform, in one list. Each reads the environment variable ``MEDLAKE_<NAME>``."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """Settings of one installation; the defaults are the embedded demo on this machine.

    Folders that are not set follow ``home``, so all state lies under one folder.
    """

    model_config = SettingsConfigDict(env_prefix="MEDLAKE_", env_file=None, extra="ignore")

    # where things lie
    home: Path = Field(PROJECT_ROOT / "var", description="All state of the platform / 平台全部状态所在目录")
    sources: Path | None = Field(None, description="Drop folder of the source systems / 源系统投递目录")
    truth: Path | None = Field(None, description="What only evaluation may read / 仅评估可读的真值")
    samples: Path = Field(
        PROJECT_ROOT.parent / "shared" / "samples", description="Real sample inputs / 真实样例"
    )
    standards: Path = Field(
        PROJECT_ROOT.parent / "shared" / "standards", description="Schemas of standards / 标准模式文件"
    )
    ops_database: str | None = Field(
        None, description="SQLAlchemy URL of the operational database; SQLite under home if unset / 操作库"
    )

    # who delivers
    default_org_code: str = Field("H001", description="Institution of a file that names none / 缺省机构")

    # the demo
    demo_residents: int = Field(20_000, ge=200, description="Residents of the simulated city / 演示居民数")
    demo_days: int = Field(3, ge=1, le=60, description="Daily deliveries after the history / 演示天数")
    demo_history_years: int = Field(3, ge=1, le=10, description="Years of history / 历史年数")
    demo_end_date: date = Field(date(2026, 11, 20), description="Last simulated day / 演示最后一天")
    demo_seed: int = Field(20261122, description="Seed of the simulated city / 随机种子")

    # servers, all on loopback
    host: str = Field("127.0.0.1", description="Address every server binds / 监听地址")
    airflow_port: int = Field(8080, description="Airflow / 调度")
    superset_port: int = Field(8088, description="Superset, the wall / 大屏")
    portal_port: int = Field(8300, description="Portal, the quality page / 门户与质控页")

    # who gets in
    portal_mode: Literal["demo", "production"] = Field(
        "demo", description="production: demo passwords open nothing / 生产模式下演示口令一律无效"
    )
    password_scheme: Literal["argon2id", "pbkdf2-sm3"] = Field(
        "argon2id", description="How new passwords are kept / 新口令的存储算法"
    )
    session_idle_minutes: int = Field(20, ge=1, le=30, description="A session ends after / 无操作多久后退出")
    session_hours: int = Field(10, ge=1, le=24, description="A session ends in any case / 会话最长时长")
    portal_rate_per_second: float = Field(
        50, gt=0, description="Requests a second of one person, over time / 每人每秒请求数"
    )
    portal_burst: int = Field(400, ge=1, description="Requests of one person at once / 每人突发上限")
    portal_max_upload_mb: int = Field(20, ge=1, le=200, description="Largest form or workbook / 上传上限")
    trusted_proxies: str = Field(
        "", description="Addresses whose X-Forwarded-For counts, by blanks / 可信反向代理地址"
    )
    oidc_issuer: str = Field("", description="OIDC issuer; empty: none / 统一身份认证签发方")
    oidc_client_id: str = Field("", description="OIDC client id; its secret is secrets/oidc.key / 客户端编号")
    oidc_mapping: Path | None = Field(
        None, description="Claims -> role and institution, an allow-list (YAML) / 声明到角色与机构的白名单"
    )
    portal_base_url: str = Field(
        "", description="Address of the portal as browsers see it, for OIDC / 门户对外地址"
    )

    # when
    ingest_cron: str = Field(
        "",
        description='Daily ingestion of the day before, Shanghai time, such as "30 2 * * *" / 每日接入时刻',
    )

    connected_feeds: str = Field(
        "his lis pacs iot public_health referral pharmacy insurance hr_finance attachments",
        description='Feeds with a daily task in Airflow; "all" for every contract / 每日接入的数据源',
    )
    openlineage_url: str = Field(
        "", description="OpenLineage collector; a file under home/lineage if unset / 血缘收集地址"
    )

    # uploads over HTTP
    http_max_bytes: int = Field(
        50 * 1024 * 1024, ge=1024, description="Largest upload with its attachments / 单次上传上限"
    )
    http_max_json_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="Largest JSON of an upload / 上传 JSON 上限"
    )
    http_max_attachments: int = Field(10, ge=0, description="Attachments of one upload / 单次附件数上限")
    http_max_records: int = Field(500, ge=1, description="Records of one upload / 单次记录数上限")
    http_rate_per_second: float = Field(
        20, gt=0, description="Uploads a second of one token, over time / 每凭证每秒上传次数"
    )
    http_burst: int = Field(100, ge=1, description="Uploads of one token at once / 每凭证突发上限")
    http_seal_seconds: float = Field(
        30, gt=0, description="Uploads reach the drop after so many seconds / 上传多久后进入投递目录"
    )

    # the registry over FHIR
    fhir_max_bytes: int = Field(256 * 1024, ge=1024, description="Largest FHIR request / 单次 FHIR 请求上限")
    fhir_rate_per_second: float = Field(
        500, gt=0, description="FHIR requests a second of one token, over time / 每凭证每秒 FHIR 请求数"
    )
    fhir_burst: int = Field(2000, ge=1, description="FHIR requests of one token at once / 每凭证突发上限")

    # quality checks before something is saved
    entry_rate_per_second: float = Field(
        200, gt=0, description="Entry-time checks a second of one token, over time / 每凭证每秒录入质控次数"
    )
    entry_burst: int = Field(
        1000, ge=1, description="Entry-time checks of one token at once / 每凭证突发上限"
    )
    entry_warm: str = Field(
        "",
        description='Tables whose rules are planned at start, such as "htn_visit ph_exam" / 启动时预热的表',
    )

    # identity: a run that changes more than this stops for approval
    empi_max_merge_share: float = Field(
        0.002, ge=0, le=1, description="Persons that one run may merge away, of all / 单次运行可合并人数占比"
    )
    empi_max_split_share: float = Field(
        0.001, ge=0, le=1, description="Persons that one run may split off, of all / 单次运行可拆分人数占比"
    )
    empi_free_changes: int = Field(
        100, ge=0, description="Merges and splits that are never stopped / 无需批准的变更数"
    )

    # engine limits
    duckdb_threads: int = Field(2, ge=1, description="Threads of one DuckDB connection / 线程数")
    duckdb_memory: str = Field("1500MB", description="Memory limit of one DuckDB connection / 内存上限")
    batch_max_bytes: int = Field(
        512 * 1024 * 1024, ge=1024, description="A larger delivery is split into several batches / 单批上限"
    )
    serving_keep: int = Field(2, ge=1, description="Old serving files kept beside the current / 保留旧服务库")

    def folder(self, *names: str) -> Path:
        """A folder below home, made if need be. Home itself is the service account's alone (mode 0700)."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = self.home.joinpath(*names)
        made.mkdir(parents=True, exist_ok=True)
        return made

    @property
    def project_root(self) -> Path:
        return PROJECT_ROOT

    @property
    def seeds_dir(self) -> Path:
        return PROJECT_ROOT / "dbt" / "seeds"

    @property
    def sources_dir(self) -> Path:
        return self.sources or self.home / "sources"

    @property
    def samples_dir(self) -> Path:
        return self.samples

    @property
    def standards_dir(self) -> Path:
        return self.standards

    @property
    def landing_dir(self) -> Path:
        return self.home / "landing"

    @property
    def lake_dir(self) -> Path:
        return self.home / "lake"

    @property
    def serving_dir(self) -> Path:
        return self.home / "serving"

    @property
    def log_dir(self) -> Path:
        return self.home / "logs"

    @property
    def secrets_dir(self) -> Path:
        return self.home / "secrets"

    @property
    def ops_url(self) -> str:
        return self.ops_database or f"sqlite:///{self.home / 'ops' / 'medlake.db'}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process; ``settings.cache_clear()`` after changing the environment (tests)."""
    return Settings()  # type: ignore[call-arg]
