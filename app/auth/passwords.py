"""Passwords: Argon2id in threads, so that hashing neither blocks the loop nor eats the memory.

19 MiB, two passes and one lane are OWASP's recommendation for Argon2id. Every
check costs one hash, whether the user exists or not, so the time tells nothing.
"""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher

from app.common.errors import FieldError, ValidationFailed

MIN_LENGTH = 8
MAX_BYTES = 1024
CONCURRENCY = 2
_MEMORY_KIB = 19_456

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the password fits, and its hash in today's parameters when those have changed."""

    fits: bool
    new_hash: str | None = None


class Passwords:
    """Hashes and verifies passwords, a few at a time."""

    def __init__(self) -> None:
        self._hasher = PasswordHash(
            (Argon2Hasher(time_cost=2, memory_cost=_MEMORY_KIB, parallelism=1),)
        )
        self._threads = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="argon2")
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe(16))

    async def hash(self, password: str) -> str:
        """Return the hash to store; raises ValidationFailed for a password that is not allowed."""
        check_new_password(password)
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Return whether the password fits the hash; None, for an unknown user, never fits.

        Raises ValidationFailed for a password that is longer than any could be,
        before it is hashed.
        """
        check_length(password)
        return await self._run(lambda: self._verify(password, stored))

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password: str, stored: str | None) -> Verdict:
        try:
            fits, new_hash = self._hasher.verify_and_update(password, stored or self._nobodys_hash)
        except PwdlibError:
            return Verdict(fits=False)
        return Verdict(fits=fits and stored is not None, new_hash=new_hash)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def check_length(password: str) -> None:
    """Raise ValidationFailed for a password of more than MAX_BYTES bytes, or that is no text."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        raise _refusal("The password holds a lone surrogate, which is not a character.") from None
    if size > MAX_BYTES:
        raise _refusal(f"The password has more than {MAX_BYTES} bytes.")


def check_new_password(password: str) -> None:
    """Raise ValidationFailed for a password that nobody should choose."""
    check_length(password)
    if len(password) < MIN_LENGTH:
        raise _refusal(f"The password has fewer than {MIN_LENGTH} characters.")
    if "\x00" in password:
        raise _refusal("The password holds the NUL character.")


def _refusal(message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[FieldError(("body", "password"), message, "password")])
