"""What `taskyard doctor` asks Redis."""

from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.common.findings import Finding, good, is_older
from app.common.redaction import mask_text
from app.config.settings import RedisSettings

_MINIMUM = (6, 2)


def check_redis(settings: RedisSettings) -> Iterator[Finding]:
    """Yield whether Redis answers, how old it is, and whether it may forget what is in use."""
    client = Redis.from_url(
        settings.url.get_secret_value(),
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
    )
    try:
        facts: dict[str, Any] = client.info()
    except (RedisError, OSError) as error:
        yield Finding(
            check="redis",
            level="warn",
            what=f"it does not answer: {mask_text(str(error))}",
            why="Everything works without it, only slower; limits count per process.",
            fix="taskyard config show",
            unavailable=True,
        )
        return
    finally:
        client.close()
    yield from _judge(facts)


def _judge(facts: dict[str, Any]) -> Iterator[Finding]:
    version = str(facts.get("redis_version", "0"))
    if is_older(version, _MINIMUM):
        yield Finding(
            check="redis",
            level="warn",
            what=f"Redis {version}",
            why="6.2 is the oldest that is tested.",
            fix="upgrade Redis, then: taskyard doctor",
        )
    else:
        yield good("redis", f"Redis {version}")
    if facts.get("maxmemory") and facts.get("maxmemory_policy") == "noeviction":
        yield Finding(
            check="redis",
            level="warn",
            what="maxmemory is set and maxmemory-policy is noeviction",
            why="A full cache then refuses every write instead of forgetting the oldest.",
            fix="redis-cli config set maxmemory-policy allkeys-lru",
        )
