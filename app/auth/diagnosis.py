"""What `taskyard doctor` says of the key that signs tokens."""

from collections.abc import Iterator

from app.auth.keys import SigningKeyError, open_signing_key
from app.common.findings import Finding, good
from app.config.settings import Settings

# A command, not a secret.
_MAKE_KEY = 'export TASKYARD_AUTH__JWT__SECRET="$(openssl rand -base64 48)"'
_WEAK_WORDS = ("secret", "changeme", "change-me", "password", "example", "taskyard", "12345")
_FEW_CHARACTERS = 12
_LONG_TOKEN_SECONDS = 86_400


def check_key(settings: Settings) -> Iterator[Finding]:
    """Yield whether the key can be used or guessed, and how long a token lives."""
    jwt = settings.auth.jwt
    if settings.is_embedded and jwt.secret is None and jwt.private_key_file is None:
        yield good("token key", "made up in the data folder, for this machine")
    else:
        yield _judge(settings)
    if settings.auth.access_token_seconds > _LONG_TOKEN_SECONDS:
        yield Finding(
            check="token life",
            level="warn",
            what=f"an access token is good for {settings.auth.access_token_seconds} s",
            why="A stolen one works until it ends; a refresh token can be revoked.",
            fix="export TASKYARD_AUTH__ACCESS_TOKEN_SECONDS=900",
        )


def _judge(settings: Settings) -> Finding:
    jwt = settings.auth.jwt
    try:
        open_signing_key(jwt, settings.data_dir, may_generate=False)
    except SigningKeyError as error:
        return Finding(
            check="token key",
            level="fail",
            what=error.detail,
            why="The API does not start without a key.",
            fix=_MAKE_KEY,
        )
    secret = jwt.secret.get_secret_value() if jwt.secret else ""
    if secret and _could_be_guessed(secret):
        return Finding(
            check="token key",
            level="warn",
            what="auth.jwt.secret looks like one that can be guessed",
            why="Who knows it can make tokens for everybody.",
            fix=_MAKE_KEY,
        )
    return good("token key", f"{jwt.algorithm}")


def _could_be_guessed(secret: str) -> bool:
    is_monotonous = len(set(secret)) < _FEW_CHARACTERS
    return is_monotonous or any(word in secret.lower() for word in _WEAK_WORDS)
