"""The signing key: found, made once, or refused at the start."""

import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from app.auth.keys import SECRET_FILE, SigningKeyError, open_signing_key
from app.common.errors import ConfigurationError
from app.config.settings import JwtSettings
from tests.unit.auth.test_tokens import pem


def opened(tmp_path: Path, *, may_generate: bool = False, **settings: Any) -> Any:
    return open_signing_key(JwtSettings(**settings), tmp_path, may_generate=may_generate)


def test_a_generated_secret_is_kept_for_the_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = opened(folder, may_generate=True)
    file = folder / SECRET_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes()) >= 32
    assert opened(folder, may_generate=True) == first
    assert [path.name for path in folder.iterdir()] == [SECRET_FILE]


def test_a_file_that_others_can_read_is_closed(tmp_path: Path) -> None:
    opened(tmp_path, may_generate=True)
    file = tmp_path / SECRET_FILE
    file.chmod(0o644)
    opened(tmp_path, may_generate=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def _open_and_tell(folder: Path, queue: Any) -> None:
    queue.put(opened(folder, may_generate=True).kid)


def test_processes_that_start_at_once_share_one_secret(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_open_and_tell, args=(tmp_path, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    kids = {queue.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert len(kids) == 1


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_short_secret_stops_the_start(tmp_path: Path, algorithm: Any, least: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        opened(tmp_path, algorithm=algorithm, secret="x" * (least - 1))
    assert str(least) in caught.value.detail
    assert opened(tmp_path, algorithm=algorithm, secret="x" * least).algorithm == algorithm


def test_bytes_count_and_not_characters(tmp_path: Path) -> None:
    assert opened(tmp_path, secret="é" * 16)


def test_without_a_secret_a_real_deployment_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match=r"auth\.jwt\.secret"):
        opened(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_key_is_not_printed(tmp_path: Path) -> None:
    assert "hunter2" not in repr(opened(tmp_path, secret="hunter2" * 5))


def test_a_key_file_and_an_hmac_algorithm_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="signs with a secret"):
        opened(tmp_path, private_key_file=tmp_path / "key.pem")


@pytest.mark.parametrize(
    ("algorithm", "content"),
    [
        ("RS256", None),
        ("RS256", b"not a key"),
        ("RS256", pem(rsa.generate_private_key(65537, 1024))),  # noqa: S505 - weak on purpose
        ("RS256", pem(ed25519.Ed25519PrivateKey.generate())),
        ("EdDSA", pem(rsa.generate_private_key(65537, 2048))),
        ("ES256", pem(ec.generate_private_key(ec.SECP384R1()))),
        (
            "EdDSA",
            ed25519.Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
            ),
        ),
    ],
    ids=["missing", "garbage", "weak", "ed25519", "rsa", "p384", "encrypted"],
)
def test_j40_a_key_file_that_does_not_fit_stops_the_start(
    tmp_path: Path, algorithm: Any, content: bytes | None
) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SigningKeyError):
        opened(tmp_path, algorithm=algorithm, private_key_file=file)


def test_an_asymmetric_algorithm_needs_a_key_file(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="private_key_file is not set"):
        opened(tmp_path, algorithm="EdDSA")
