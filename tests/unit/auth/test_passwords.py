"""Passwords: hashed slowly, verified at one price, and bounded before that."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.auth.passwords import CONCURRENCY, Passwords
from app.common.errors import ValidationFailed

PASSWORD = "correct horse battery"


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    opened = Passwords()
    yield opened
    opened.close()


async def test_a_hash_is_argon2id_with_owasps_parameters(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert stored != await passwords.hash(PASSWORD)
    assert (await passwords.verify(PASSWORD, stored)).fits
    assert not (await passwords.verify(PASSWORD + "x", stored)).fits
    assert (await passwords.verify(PASSWORD, stored)).new_hash is None


async def test_nobody_has_no_password(passwords: Passwords) -> None:
    assert not (await passwords.verify(PASSWORD, None)).fits
    assert not (await passwords.verify("", None)).fits


async def test_an_older_hash_is_renewed(passwords: Passwords) -> None:
    weaker = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8192, parallelism=1),))
    verdict = await passwords.verify(PASSWORD, weaker.hash(PASSWORD))
    assert verdict.fits
    assert verdict.new_hash is not None
    assert (await passwords.verify(PASSWORD, verdict.new_hash)).fits


@pytest.mark.parametrize("stored", ["", "x", "$argon2id$broken", "plain password"])
async def test_a_hash_that_is_none_fits_nothing(passwords: Passwords, stored: str) -> None:
    assert not (await passwords.verify(PASSWORD, stored)).fits


async def test_t14_few_hashes_are_made_at_once(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    before = {thread.ident for thread in threading.enumerate()}
    verdicts = await asyncio.gather(*(passwords.verify(PASSWORD, stored) for _ in range(12)))
    assert all(verdict.fits for verdict in verdicts)
    made = {thread.ident for thread in threading.enumerate()} - before
    assert len(made) < CONCURRENCY + 1


@pytest.mark.parametrize("password", ["x" * 1025, "é" * 513, "\ud800 is no text"])
async def test_t10_what_no_password_can_be_is_refused_first(
    passwords: Passwords, password: str
) -> None:
    with pytest.raises(ValidationFailed):
        await passwords.verify(password, None)
    with pytest.raises(ValidationFailed) as caught:
        await passwords.hash(password)
    assert caught.value.errors[0].loc == ("body", "password")
    assert password not in caught.value.detail
