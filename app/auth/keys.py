"""The key that signs access tokens: an HMAC secret, or a private key with a public JWK."""

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.common.errors import ConfigurationError
from app.config.settings import JwtSettings

SECRET_FILE = "jwt.secret"  # noqa: S105 - the name of a file, not a secret
# RFC 7518, section 3.2: an HMAC key is at least as long as the hash.
_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
_RSA_BITS = 2048
# RFC 7638, section 3.2: the members that a key's thumbprint is made of.
_THUMBPRINT = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}


class SigningKeyError(ConfigurationError):
    """The key for access tokens is missing, unreadable, too weak, or of another algorithm."""

    code = "SIGNING_KEY_INVALID"
    title = "Signing key not usable"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A key, the one algorithm that it is used with, and its public form."""

    algorithm: str
    kid: str
    private: Any
    public: Any
    jwk: Mapping[str, str] | None

    def __repr__(self) -> str:
        """Return a text without the key."""
        return f"SigningKey(algorithm={self.algorithm!r}, kid={self.kid!r})"


def open_signing_key(settings: JwtSettings, data_dir: Path, *, may_generate: bool) -> SigningKey:
    """Return the configured key.

    Without one, ``may_generate`` lets a secret be made in the data folder, where
    every process of this machine finds it again. Raises SigningKeyError.
    """
    if settings.algorithm not in _SECRET_BYTES:
        return _asymmetric(settings)
    if settings.private_key_file is not None:
        raise SigningKeyError(
            f"auth.jwt.private_key_file is set, but {settings.algorithm} signs with a secret.",
            hint="Set auth.jwt.algorithm to RS256, ES256 or EdDSA.",
        )
    if settings.secret is not None:
        return _symmetric(settings.algorithm, settings.secret.get_secret_value().encode())
    if not may_generate:
        raise SigningKeyError(
            "auth.jwt.secret is not set.",
            hint="Set it, or auth.jwt.private_key_file, to the same value on every machine.",
        )
    return _symmetric(settings.algorithm, _generated_secret(data_dir))


def _symmetric(algorithm: str, secret: bytes) -> SigningKey:
    least = _SECRET_BYTES[algorithm]
    if len(secret) < least:
        raise SigningKeyError(
            f"auth.jwt.secret has {len(secret)} bytes; {algorithm} needs {least}.",
            hint="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(64))'",
        )
    kid = hmac.new(secret, b"taskyard key id", hashlib.sha256).hexdigest()[:16]
    return SigningKey(algorithm=algorithm, kid=kid, private=secret, public=secret, jwk=None)


def _generated_secret(data_dir: Path) -> bytes:
    """Return the data folder's secret; of several processes that start at once one makes it."""
    path = data_dir / SECRET_FILE
    data_dir.mkdir(parents=True, exist_ok=True)
    draft = data_dir / f".{SECRET_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(64))
    try:
        # A link appears whole or not at all, and never replaces what is there.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    path.chmod(0o600)
    return path.read_bytes().strip()


def _asymmetric(settings: JwtSettings) -> SigningKey:
    if settings.private_key_file is None:
        raise SigningKeyError(
            f"auth.jwt.private_key_file is not set; {settings.algorithm} needs it."
        )
    private = _read_private_key(settings.private_key_file)
    jwk = _public_jwk(settings.algorithm, private)
    kid = _thumbprint(jwk)
    return SigningKey(
        algorithm=settings.algorithm,
        kid=kid,
        private=private,
        public=private.public_key(),
        jwk={**jwk, "kid": kid, "alg": settings.algorithm, "use": "sig"},
    )


def _read_private_key(path: Path) -> Any:
    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SigningKeyError(f"auth.jwt.private_key_file cannot be read: {reason}.") from error
    except (ValueError, TypeError):
        # The original error is cut off because it may quote the file.
        message = "auth.jwt.private_key_file holds no unencrypted private key in PEM form."
        raise SigningKeyError(message) from None


def _public_jwk(algorithm: str, private: Any) -> dict[str, str]:
    if algorithm == "RS256" and isinstance(private, RSAPrivateKey):
        if private.key_size < _RSA_BITS:
            raise SigningKeyError(f"The RSA key has {private.key_size} bits; it needs {_RSA_BITS}.")
        return _named(RSAAlgorithm.to_jwk(private.public_key(), as_dict=True))
    if algorithm == "ES256" and isinstance(private, EllipticCurvePrivateKey):
        if isinstance(private.curve, SECP256R1):
            return _named(ECAlgorithm.to_jwk(private.public_key(), as_dict=True))
        raise SigningKeyError("ES256 needs a key on the curve P-256.")
    if algorithm == "EdDSA" and isinstance(private, Ed25519PrivateKey):
        return _named(OKPAlgorithm.to_jwk(private.public_key(), as_dict=True))
    raise SigningKeyError(f"auth.jwt.private_key_file holds no key for {algorithm}.")


def _named(jwk: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(jwk[name]) for name in _THUMBPRINT[jwk["kty"]]}


def _thumbprint(jwk: Mapping[str, str]) -> str:
    canonical = json.dumps(dict(sorted(jwk.items())), separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
