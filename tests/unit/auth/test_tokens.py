"""Cases J6 to J40 of the threat list, as far as they concern a token by itself."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from app.auth.errors import InvalidToken
from app.auth.keys import SigningKey, open_signing_key
from app.auth.principal import Principal
from app.auth.tokens import LEEWAY_SECONDS, MAX_LIFE_SECONDS, TYPE, TokenService, _is_now
from app.common.errors import ValidationFailed
from app.common.ids import new_id
from app.config.settings import JwtSettings

SECRET = "0123456789abcdef0123456789abcdef"
USER = Principal(
    id=new_id(), name="ada", kind="user", role="viewer", scopes=frozenset({"tasks:read"})
)


def each(name: str, values: Sequence[Any]) -> pytest.MarkDecorator:
    """Cases that have no short name of their own are numbered."""
    return pytest.mark.parametrize(name, values, ids=[str(at) for at in range(len(values))])


def hs_key(secret: str = SECRET) -> SigningKey:
    settings = JwtSettings(secret=SecretStr(secret))
    return open_signing_key(settings, Path("not-used"), may_generate=False)


def service(key: SigningKey | None = None, **options: Any) -> TokenService:
    arguments = {"issuer": "taskyard", "audience": "taskyard", "access_token_seconds": 900}
    return TokenService(key or hs_key(), **{**arguments, **options})


def good_claims() -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": "taskyard",
        "aud": "taskyard",
        "sub": USER.id,
        "iat": now,
        "exp": now + 60,
        "jti": new_id(),
        "scope": "tasks:read",
        "kind": "user",
        "ver": 1,
    }


def good_header() -> dict[str, Any]:
    return {"typ": TYPE, "alg": "HS256", "kid": hs_key().kid}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def as_bytes(part: bytes | dict[str, Any]) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


def sign(header: bytes | dict[str, Any], payload: bytes | dict[str, Any]) -> str:
    parts = [
        one if isinstance(one, bytes) else json.dumps(one).encode() for one in (header, payload)
    ]
    text = f"{b64(parts[0])}.{b64(parts[1])}"
    return f"{text}.{b64(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"


def with_claims(**changes: Any) -> str:
    claims = {**good_claims(), **changes}
    return sign(good_header(), {name: value for name, value in claims.items() if value is not ...})


def raw_claims(extra: str) -> str:
    """A payload whose JSON ends with hand-written members."""
    text = json.dumps(good_claims())[:-1] + f", {extra}}}"
    return sign(good_header(), text.encode())


def refused(token: str, verifier: TokenService | None = None) -> InvalidToken:
    with pytest.raises(InvalidToken) as caught:
        (verifier or service()).verify(token)
    # One body for every fault; what was wrong is for the log.
    assert caught.value.detail == "The access token is not valid."
    assert caught.value.status == 401
    assert caught.value.reason
    return caught.value


def test_a_token_comes_back_as_it_was_issued() -> None:
    tokens = service()
    session = new_id()
    claims = tokens.verify(tokens.issue(USER, session_id=session))
    assert claims.subject == USER.id
    assert claims.kind == "user"
    assert claims.scopes == {"tasks:read"}
    assert claims.session_id == session
    assert claims.version == 1
    assert claims.expires_at - claims.issued_at == 900


def test_the_hand_made_token_of_these_tests_is_good() -> None:
    assert service().verify(sign(good_header(), good_claims())).subject == USER.id


def test_scopes_and_life_can_be_chosen() -> None:
    tokens = service()
    claims = tokens.verify(tokens.issue(USER, ["tasks:run"], 60))
    assert claims.scopes == {"tasks:run"}
    assert claims.expires_at - claims.issued_at == 60


@pytest.mark.parametrize("seconds", [0, -1, MAX_LIFE_SECONDS + 1])
def test_a_life_outside_the_bounds_is_not_issued(seconds: int) -> None:
    with pytest.raises(ValidationFailed):
        service().issue(USER, expires_in=seconds)


@each("alg", ["none", "None", "nOnE", "NONE", "HS384", ["HS256"], 1, None])
def test_j6_j7_another_algorithm_is_refused(alg: Any) -> None:
    refused(sign({**good_header(), "alg": alg}, good_claims()))


def test_j6_no_signature_at_all_is_refused() -> None:
    header = b64(json.dumps({**good_header(), "alg": "none"}).encode())
    payload = b64(json.dumps(good_claims()).encode())
    refused(f"{header}.{payload}.")
    refused(f"{header}.{payload}")


def test_j7_a_header_without_alg_typ_or_kid_is_refused() -> None:
    for name in ("alg", "typ", "kid"):
        header = good_header()
        del header[name]
        refused(sign(header, good_claims()))


def _rsa_service(tmp_path: Any, bits: int = 2048) -> tuple[TokenService, rsa.RSAPrivateKey]:
    private = rsa.generate_private_key(65537, bits)
    file = tmp_path / "key.pem"
    file.write_bytes(pem(private))
    settings = JwtSettings(algorithm="RS256", private_key_file=file)
    return service(open_signing_key(settings, tmp_path, may_generate=False)), private


def pem(private: Any) -> bytes:
    data: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data


def test_j8_j9_the_public_key_is_no_hmac_secret(tmp_path: Any) -> None:
    tokens, private = _rsa_service(tmp_path)
    kid = tokens.jwks()["keys"][0]["kid"]
    public = private.public_key()
    forms = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        b"\xef\xbb\xbf" + public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(tokens.jwks()["keys"][0]).encode(),
    ]
    for secret in forms:
        for alg in ("HS256", "RS256"):
            header = {"typ": TYPE, "alg": alg, "kid": kid}
            text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(good_claims()).encode())}"
            mac = hmac.new(secret, text.encode(), hashlib.sha256).digest()
            refused(f"{text}.{b64(mac)}", tokens)


def test_j10_j11_j12_the_signature_must_be_this_tokens() -> None:
    header, payload, signature = with_claims().split(".")
    other = with_claims(sub=new_id()).split(".")[2]
    for wrong in ("", signature[:-4], signature[:10], other, "A" * len(signature)):
        refused(f"{header}.{payload}.{wrong}")


def test_a_second_spelling_of_the_same_signature_is_refused() -> None:
    # The last of 43 characters carries two spare bits.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = with_claims()
    twin = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
    assert base64.urlsafe_b64decode(twin.split(".")[2] + "=") == base64.urlsafe_b64decode(
        token.split(".")[2] + "="
    )
    refused(twin)


def test_j13_expired_beyond_the_leeway_is_refused() -> None:
    now = int(time.time())
    refused(with_claims(iat=now - 60, exp=now - 6))


def test_j13_expired_within_the_leeway_is_let_in() -> None:
    now = int(time.time())
    assert service().verify(with_claims(iat=now - 60, exp=now - 1)) is not None


@pytest.mark.parametrize("name", list(good_claims()))
def test_j14_j21_every_claim_is_needed(name: str) -> None:
    refused(with_claims(**{name: ...}))


@pytest.mark.parametrize("name", ["exp", "iat", "ver", "nbf"])
@each("value", ["abc", "1999999999", None, [], True, 1999999999.0, 10**19, {}])
def test_j15_j16_j17_numbers_are_integers(name: str, value: Any) -> None:
    refused(with_claims(**{name: value}))


@each("text", ["NaN", "1e400", "Infinity", "-Infinity", "9" * 5000, "1E2"])
def test_j15_j28_numbers_that_json_or_we_do_not_know(text: str) -> None:
    payload = json.dumps(good_claims()).replace(f'"exp": {good_claims()["exp"]}', f'"exp": {text}')
    assert text in payload
    refused(sign(good_header(), payload.encode()))


def test_j16_a_long_life_is_refused_though_it_is_signed() -> None:
    now = int(time.time())
    refused(with_claims(exp=now + MAX_LIFE_SECONDS + 60))
    refused(with_claims(iat=now - MAX_LIFE_SECONDS, exp=now + 60))


def test_a_life_that_ends_before_it_begins_is_refused() -> None:
    now = int(time.time())
    refused(with_claims(iat=now + 2, exp=now + 1))


def test_j18_j19_not_yet_valid_is_refused() -> None:
    now = int(time.time())
    refused(with_claims(nbf=now + 30))
    refused(with_claims(iat=now + 30, exp=now + 60))


@each("issuer", ["other", "taskyar", "taskyard2", ["taskyard"], 1, None, ""])
def test_j20_another_issuer_is_refused(issuer: Any) -> None:
    refused(with_claims(iss=issuer))


@each("audience", ["other", {"taskyard": 1}, [], ["other"], [1, "taskyard"], None])
def test_j21_another_audience_is_refused(audience: Any) -> None:
    refused(with_claims(aud=audience))


def test_j22_a_list_of_audiences_with_ours_is_accepted() -> None:
    assert service().verify(with_claims(aud=["other", "taskyard"])) is not None


@each("subject", [7, "", "x" * 10_000, "not-an-id", None, ["a"], USER.id.upper()])
def test_j23_the_subject_is_an_id(subject: Any) -> None:
    refused(with_claims(sub=subject))


@each("scope", ["tasks:read evil\tscope", "UPPER:case", ["tasks:read"], 1, "a b"])
def test_a_malformed_scope_is_refused(scope: Any) -> None:
    refused(with_claims(scope=scope))


@each("kind", ["admin", "", None, 1])
def test_an_unknown_kind_is_refused(kind: Any) -> None:
    refused(with_claims(kind=kind))


def test_j24_an_unknown_claim_gives_nothing() -> None:
    claims = service().verify(with_claims(tenant="other", role="admin", admin=True))
    assert claims.scopes == {"tasks:read"}


def test_j26_doubled_claims_are_refused() -> None:
    refused(raw_claims(f'"sub": "{new_id()}"'))
    refused(raw_claims('"scope": "admin"'))


def test_j27_doubled_header_members_are_refused() -> None:
    text = json.dumps(good_header())[:-1] + ', "alg": "HS256"}'
    refused(sign(text.encode(), good_claims()))


@each(
    "payload",
    [
        b"[]",
        b'"text"',
        b"\xff\xff",
        b"not json",
        b"",
        b"[" * 3000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        '{"sub": "\ud800"}'.encode("utf-8", "surrogatepass"),
        b'{"sub": "\\u0000"}',
        json.dumps(good_claims()).encode("utf-16"),
    ],
)
def test_j28_a_payload_that_is_no_plain_object_is_refused(payload: bytes) -> None:
    refused(sign(good_header(), payload))
    refused(sign(payload, good_claims()))


def test_j29_a_huge_token_is_refused_before_it_is_read() -> None:
    assert refused(with_claims(extra="x" * 1_000_000)).reason == "too long"
    assert refused(sign({**good_header(), "x": "y" * 9000}, good_claims())).reason == "too long"


@each("kid", ["../../dev/null", "' OR 1=1 --", "x" * 5000, 7, "unknown", None, ["a"]])
def test_j30_an_unknown_key_id_is_refused(kid: Any) -> None:
    refused(sign({**good_header(), "kid": kid}, good_claims()))


@each(
    "member",
    [
        {"jku": "http://127.0.0.1:1/jwks"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"jwk": {"kty": "oct", "k": b64(SECRET.encode())}},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
)
def test_j31_j32_j33_a_header_asks_for_nothing_more(member: dict[str, Any]) -> None:
    refused(sign({**good_header(), **member}, good_claims()))


@each(
    "change",
    [
        lambda token: token.rsplit(".", 1)[0],
        lambda token: f"{token}.x",
        lambda token: f"{token}.x.y",
        lambda token: "..",
        lambda token: "",
        lambda token: token.replace(".", ". "),
        lambda token: f" {token}",
        lambda token: f"{token}\n",
        lambda token: f"{token}=",
        lambda token: token.replace(".", "。"),
        lambda token: token[:5] + "é" + token[6:],
        lambda token: token.replace(".", "+.", 1),
        lambda token: "A." + token.split(".", 1)[1],
    ],
)
def test_j34_the_form_is_three_parts_of_base64url(change: Callable[[str], str]) -> None:
    refused(change(with_claims()))


@each("kind", ["JWT", "at+JWT", "application/at+jwt", "rt+jwt", "", None])
def test_j35_j37_another_type_of_token_is_refused(kind: Any) -> None:
    refused(sign({**good_header(), "typ": kind}, good_claims()))


def test_j35_a_refresh_token_is_no_access_token() -> None:
    refused("tyr_" + "a" * 43)


def test_j39_a_token_of_a_retired_key_is_refused_and_one_of_the_new_key_is_good() -> None:
    old, new = service(), service(hs_key("another secret of at least 32 bytes!"))
    refused(old.issue(USER), new)
    assert new.verify(new.issue(USER)).subject == USER.id


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_j40_a_weak_or_foreign_key_pair_is_refused(tmp_path: Any) -> None:
    tokens, _ = _rsa_service(tmp_path)
    kid = tokens.jwks()["keys"][0]["kid"]
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose
    refused(jwt.encode(good_claims(), weak, "RS256", headers={"typ": TYPE, "kid": kid}), tokens)
    curve = ec.generate_private_key(ec.SECP256R1())
    refused(jwt.encode(good_claims(), curve, "ES256", headers={"typ": TYPE, "kid": kid}), tokens)
    edwards = ed25519.Ed25519PrivateKey.generate()
    refused(jwt.encode(good_claims(), edwards, "EdDSA", headers={"typ": TYPE, "kid": kid}), tokens)


@pytest.mark.parametrize(
    ("algorithm", "make"),
    [
        ("RS256", lambda: rsa.generate_private_key(65537, 2048)),
        ("ES256", lambda: ec.generate_private_key(ec.SECP256R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate),
    ],
)
def test_a_stranger_verifies_with_the_published_key(
    tmp_path: Any, algorithm: Any, make: Callable[[], Any]
) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(make()))
    settings = JwtSettings(algorithm=algorithm, private_key_file=file)
    tokens = service(open_signing_key(settings, tmp_path, may_generate=False))
    token = tokens.issue(USER)
    assert tokens.verify(token).subject == USER.id
    (published,) = tokens.jwks()["keys"]
    assert published["use"] == "sig"
    assert "d" not in published
    assert jwt.get_unverified_header(token)["kid"] == published["kid"]
    key = jwt.PyJWK(dict(published))
    assert jwt.decode(token, key, algorithms=[algorithm], audience="taskyard")["sub"] == USER.id


def test_a_secret_is_not_published() -> None:
    assert service().jwks() == {"keys": []}


def test_a_token_that_was_good_is_refused_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens = service()
    token = tokens.issue(USER, expires_in=60)
    assert tokens.verify(token) == tokens.verify(token)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 60 + LEEWAY_SECONDS)
    refused_now(tokens, token)
    # A clock that was set back makes it a token of the future.
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    refused_now(tokens, token)
    monkeypatch.undo()
    assert tokens.verify(token).subject == USER.id


def refused_now(tokens: TokenService, token: str) -> None:
    """The library has a clock of its own, so only what is remembered is asked."""
    claims = tokens._verified[hashlib.sha256(token.encode()).digest()]  # noqa: SLF001
    assert not _is_now(claims)


def test_the_remembered_tokens_are_bounded_and_no_token_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.auth.tokens._MOST_VERIFIED", 3)
    tokens = service()
    made = [tokens.issue(USER) for _ in range(10)]
    for token in made:
        tokens.verify(token)
    assert 0 < len(tokens._verified) <= 3  # noqa: SLF001 - nobody else can see it
    assert not any(token in repr(tokens._verified) for token in made)  # noqa: SLF001


def test_another_spelling_of_a_good_token_is_not_taken_for_it() -> None:
    tokens = service()
    token = tokens.issue(USER)
    tokens.verify(token)
    for wrong in (token + "=", token[:-1], token.upper(), f" {token}"):
        refused(wrong, tokens)
