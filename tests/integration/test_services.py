"""The fixtures keep their word: what they hand out is fresh, private and dropped again."""

from contextlib import closing

import psycopg
from sqlalchemy.engine import make_url

from tests.services import Found, Services, open_services


def _databases(server: Found) -> set[str]:
    url = make_url(server.url).set(drivername="postgresql")
    with closing(psycopg.connect(url.render_as_string(hide_password=False))) as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}


def test_two_sets_share_no_name(services: Services) -> None:
    with open_services() as others:
        ours, theirs = services.environment(), others.environment()
    private = [name for name in ours if name.endswith(("MAIN__URL", "LINT__URL"))]
    private += [name for name in ours if name.endswith(("NAMESPACE", "QUEUE_PREFIX"))]
    assert len(private) == 5
    assert all(ours[name] != theirs[name] for name in private)


def test_databases_are_dropped_at_the_end(services: Services) -> None:
    server = services.require("postgres")
    with open_services() as opened:
        name = make_url(opened.postgres_url).database
        assert name in _databases(server)
    assert name not in _databases(server)
