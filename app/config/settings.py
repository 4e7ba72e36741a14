"""The settings as frozen models. The URL picks the adapter; there is no mode switch.

Durations carry their unit in the name. As they stand here the defaults are the
embedded form: SQLite, the in-process broker, the memory cache and a local folder.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

DATA_DIR = Path(".taskyard")
APPLICATION_BIND = "postgres_main"
LINT_BIND = "mysql_lint"

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
QueueClass = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class DatabaseSettings(_Section):
    """One database; its name under `databases` is its bind."""

    url: SecretStr
    pool_size: PositiveInt = 5
    max_overflow: Annotated[int, Field(ge=0)] = 5
    pool_timeout_seconds: PositiveFloat = 5.0
    connect_timeout_seconds: PositiveFloat = 5.0
    statement_timeout_seconds: PositiveFloat = 15.0
    echo: bool = False

    @field_validator("url")
    @classmethod
    def _async_driver(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        for old, driver in _ASYNC_DRIVERS.items():
            if text.startswith(f"{old}://"):
                return SecretStr(text.replace(old, driver, 1))
        if not text.startswith(_KNOWN_DATABASES):
            message = f"the URL must start with one of {', '.join(_KNOWN_DATABASES)}"
            raise ValueError(message)
        return url


_ASYNC_DRIVERS = {
    "mysql+pymysql": "mysql+aiomysql",
    "mysql": "mysql+aiomysql",
    "mariadb": "mysql+aiomysql",
    "mariadb+pymysql": "mysql+aiomysql",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+psycopg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
}
_KNOWN_DATABASES = (
    "postgresql+asyncpg://",
    "mysql+aiomysql://",
    "mariadb+aiomysql://",
    "sqlite+aiosqlite://",
)


class CelerySettings(_Section):
    """The broker, the workers and the sweeps."""

    broker_url: SecretStr = SecretStr("inproc://")
    result_backend: SecretStr | None = None
    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")] = "taskyard"
    queue_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,62}$")] = ""
    default_queue: QueueClass = "default"
    queues: tuple[QueueClass, ...] = ()
    delivery_limit: PositiveInt = 20
    concurrency: PositiveInt = 2
    # Beside `concurrency`: a run of high priority finds one of them free under any load.
    reserved_processes: Annotated[int, Field(ge=0, le=64)] = 1
    prefetch_multiplier: PositiveInt = 1
    # Classes of queues whose tasks take a few milliseconds, each with the most runs that one
    # process is handed at once.
    tiny_queues: dict[QueueClass, Annotated[int, Field(ge=1, le=1000)]] = {}
    # Whether a message of a plain Celery producer makes a run.
    plain_producers: bool = True
    max_tasks_per_child: PositiveInt = 1000
    lease_seconds: PositiveFloat = 15.0
    heartbeat_seconds: PositiveFloat = 3.0
    shutdown_grace_seconds: Annotated[float, Field(ge=0)] = 20.0
    cancel_grace_seconds: Annotated[float, Field(ge=0)] = 10.0
    publish_timeout_seconds: PositiveFloat = 3.0
    sweep_interval_seconds: PositiveFloat = 1.0
    unpublished_after_seconds: PositiveFloat = 5.0
    overdue_after_seconds: PositiveFloat = 30.0
    unknown_task_patience_seconds: PositiveFloat = 86_400.0
    # Where a worker and a beat serve their metrics; none without a port. A worker's children share
    # them through files.
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    beat_metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None

    @model_validator(mode="after")
    def _beats_before_it_ends(self) -> Self:
        # One beat may come late or fail without costing the run.
        if self.heartbeat_seconds > self.lease_seconds / 2:
            message = "heartbeat_seconds must be at most half of lease_seconds"
            raise ValueError(message)
        return self

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("amqp://", "amqps://", "inproc://")):
            message = "the broker is RabbitMQ (amqp:// or amqps://) or, in one process, inproc://"
            raise ValueError(message)
        return url


class RedisSettings(_Section):
    """The cache; nothing is lost when it is gone."""

    url: SecretStr = SecretStr("memory://")
    timeout_seconds: PositiveFloat = 0.5
    namespace: str = "taskyard"


class StorageSettings(_Section):
    """Where files are kept: `file://` (a local folder or an NFS mount) or `s3://`."""

    url: SecretStr = SecretStr("file://.taskyard/files")


class JwtSettings(_Section):
    """Signing of access tokens: an HMAC secret, or a private key for RS256 and EdDSA."""

    algorithm: Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"] = "HS256"
    secret: SecretStr | None = None
    private_key_file: Path | None = None
    issuer: str = "taskyard"
    audience: str = "taskyard"


class AuthSettings(_Section):
    """Identities and the life of tokens."""

    jwt: JwtSettings = JwtSettings()
    access_token_seconds: PositiveInt = 900
    refresh_token_seconds: PositiveInt = 2_592_000
    bootstrap_admin: SecretStr | None = None
    login_attempts_per_minute: PositiveInt = 10


class ServerSettings(_Section):
    """Where the API listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: PositiveInt = 1
    root_path: str = ""
    shutdown_grace_seconds: PositiveInt = 10


class LoggingSettings(_Section):
    """`auto` writes JSON lines unless standard error is a terminal."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["auto", "json", "console"] = "auto"


class LimitsSettings(_Section):
    """Sizes and times that a request or a task may use."""

    max_params_bytes: PositiveInt = 262_144
    max_body_bytes: PositiveInt = 2_097_152
    max_batch_body_bytes: PositiveInt = 16_777_216
    max_inline_result_bytes: PositiveInt = 65_536
    max_upload_mb: PositiveInt = 100
    allowed_upload_types: tuple[str, ...] = ("sql", "zip")
    max_delay_seconds: PositiveInt = 31_536_000
    max_timeout_seconds: PositiveInt = 86_400
    max_attempts: PositiveInt = 100
    max_log_lines: PositiveInt = 10_000
    sql_execution_timeout_seconds: PositiveFloat = 30.0
    sql_max_result_rows: PositiveInt = 1000


class SchedulesSettings(_Section):
    """Schedules whose fire times passed while no beat was there."""

    misfire_grace_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 60.0
    catch_up_limit: Annotated[int, Field(ge=1, le=1000)] = 100


class StreamSettings(_Section):
    """Streams of server-sent events, for each process of the API."""

    max_open: PositiveInt = 500
    max_open_per_caller: PositiveInt = 50
    heartbeat_seconds: PositiveFloat = 15.0
    retry_after_seconds: PositiveInt = 5


class RetentionSettings(_Section):
    """How long finished work is kept."""

    runs_days: PositiveInt = 30
    schedule_firings_days: PositiveInt = 30
    dead_letters_days: PositiveInt = 90
    idempotency_seconds: PositiveInt = 86_400
    interval_seconds: PositiveFloat = 60.0
    budget_seconds: PositiveFloat = 2.0


class ConsulSettings(_Section):
    """Address of the Consul agent that the service registers with; off without a host."""

    host: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = 8500


class Settings(BaseSettings):
    """Everything that a process of Taskyard is configured by. Build it with `load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="TASKYARD_",
        env_nested_delimiter="__",
        validate_default=True,
    )

    data_dir: Path = DATA_DIR
    databases: dict[str, DatabaseSettings] = {
        APPLICATION_BIND: DatabaseSettings(url=SecretStr("sqlite+aiosqlite:///.taskyard/app.db")),
        LINT_BIND: DatabaseSettings(url=SecretStr("sqlite+aiosqlite:///.taskyard/lint.db")),
    }
    celery: CelerySettings = CelerySettings()
    redis: RedisSettings = RedisSettings()
    storage: StorageSettings = StorageSettings()
    auth: AuthSettings = AuthSettings()
    server: ServerSettings = ServerSettings()
    logging: LoggingSettings = LoggingSettings()
    limits: LimitsSettings = LimitsSettings()
    schedules: SchedulesSettings = SchedulesSettings()
    streams: StreamSettings = StreamSettings()
    retention: RetentionSettings = RetentionSettings()
    consul: ConsulSettings = ConsulSettings()
    features: dict[str, bool] = {}
    plugins: tuple[str, ...] = ("archive", "lint")
    # Not in the repr, because only the plugin knows which of its settings are secret.
    plugin_settings: dict[str, dict[str, Any]] = Field({}, repr=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values only from `load_settings`, which merges the sources and remembers their
        origin.
        """
        return (init_settings,)

    @property
    def is_embedded(self) -> bool:
        """Whether API and worker share this process, because the broker lives in it."""
        return self.celery.broker_url.get_secret_value().startswith("inproc://")
