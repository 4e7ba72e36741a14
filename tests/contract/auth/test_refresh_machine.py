"""Refresh-token families as a state machine: use, reuse, theft, revocation, expiry, a lost user."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select, update

from app.auth.accounts import hash_secret
from app.auth.errors import InvalidGrant
from app.auth.models import RefreshToken, User
from app.auth.refresh import RefreshTokens
from app.common.ids import new_id
from app.config.settings import APPLICATION_BIND
from tests.contract.db.making import make_databases
from tests.contract.machines import bounded

CHOICE = st.integers(0, 10**6)
SCOPES = ["tasks:read"]
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@dataclass
class Family:
    """The tokens of one login, oldest first; only the last can be good."""

    tokens: list[str] = field(default_factory=list)
    is_over: bool = False


class FamilyMachine(RuleBasedStateMachine):
    """Clients that refresh, thieves that use old tokens, people who sign out."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.databases = make_databases(url)
        self.refresh = RefreshTokens(self.databases, 3600)
        self.families: list[Family] = []
        self.user_id = new_id()
        self.run(self._begin())

    @precondition(lambda self: len(self.families) < 3)
    @rule()
    def sign_in(self) -> None:
        async def start() -> str:
            async with self.databases.transaction(APPLICATION_BIND) as session:
                token, _ = await self.refresh.start(session, self.user_id, SCOPES)
                return token

        self.families.append(Family([self.run(start())]))

    @precondition(lambda self: self.families)
    @rule(choice=CHOICE)
    def use_the_newest(self, choice: int) -> None:
        family = self.pick(choice)
        self.use(family, family.tokens[-1])

    @precondition(lambda self: self.families)
    @rule(choice=CHOICE)
    def use_any(self, choice: int) -> None:
        """Whoever holds an old token, the first user or a thief, ends the family with it."""
        family = self.pick(choice)
        self.use(family, family.tokens[choice // 7 % len(family.tokens)])

    @precondition(lambda self: self.families)
    @rule(choice=CHOICE)
    def use_twice_at_once(self, choice: int) -> None:
        family = self.pick(choice)
        token = family.tokens[-1]

        async def race() -> list[Any]:
            uses = (self.refresh.rotate(token, None) for _ in range(2))
            return await asyncio.gather(*uses, return_exceptions=True)

        answers = self.run(race())
        good = [answer for answer in answers if not isinstance(answer, Exception)]
        assert len(good) == (not family.is_over)
        assert sum(isinstance(answer, InvalidGrant) for answer in answers) == 2 - len(good)
        family.tokens += [answer.token for answer in good]
        family.is_over = True

    @precondition(lambda self: self.families)
    @rule(choice=CHOICE, is_owner=st.booleans())
    def sign_out(self, choice: int, is_owner: bool) -> None:
        family = self.pick(choice)
        token = family.tokens[choice // 7 % len(family.tokens)]
        self.run(self.refresh.revoke(token, self.user_id if is_owner else new_id()))
        family.is_over |= is_owner

    @precondition(lambda self: self.families)
    @rule(choice=CHOICE)
    def expire(self, choice: int) -> None:
        family = self.pick(choice)

        async def age() -> None:
            async with self.databases.transaction(APPLICATION_BIND) as session:
                found = await self._rows(session)
                mine = next(row for row in found if self._is_of(row, family))
                await session.execute(
                    update(RefreshToken)
                    .where(RefreshToken.family_id == mine.family_id)
                    .values(expires_at=LONG_AGO)
                )

        self.run(age())
        family.is_over = True

    @invariant()
    def a_family_has_one_good_token_or_none(self) -> None:
        async def read() -> Any:
            async with self.databases.transaction(APPLICATION_BIND) as session:
                return await self._rows(session)

        rows = self.run(read())
        assert len(rows) == sum(len(family.tokens) for family in self.families)
        for family in self.families:
            mine = [row for row in rows if self._is_of(row, family)]
            good = [
                row
                for row in mine
                if row.used_at is None and row.revoked_at is None and row.expires_at > LONG_AGO
            ]
            assert len(good) == (not family.is_over)
            assert len({row.family_id for row in mine}) == 1
            # A token says nothing about itself in the database.
            assert not {row.token_hash for row in mine} & set(family.tokens)

    def teardown(self) -> None:
        self.run(self.databases.dispose())
        self.runner.close()

    def use(self, family: Family, token: str) -> None:
        is_good = token == family.tokens[-1] and not family.is_over
        try:
            rotation = self.run(self.refresh.rotate(token, None))
        except InvalidGrant:
            assert not is_good
            if token != family.tokens[-1]:
                family.is_over = True
            return
        assert is_good
        family.tokens.append(rotation.token)

    def pick(self, choice: int) -> Family:
        return self.families[choice % len(self.families)]

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    async def _begin(self) -> None:
        async with self.databases.transaction(APPLICATION_BIND) as session:
            for model in (RefreshToken, User):
                await session.execute(delete(model))
            session.add(
                User(id=self.user_id, name="ada", password_hash="x", role="operator", scopes=[])
            )

    async def _rows(self, session: Any) -> list[RefreshToken]:
        return list(await session.scalars(select(RefreshToken)))

    def _is_of(self, row: RefreshToken, family: Family) -> bool:
        return row.token_hash in {hash_secret(token) for token in family.tokens}


def test_any_order_of_uses_leaves_one_good_token_or_none(migrated_url: str) -> None:
    class Families(FamilyMachine):
        def __init__(self) -> None:
            super().__init__(migrated_url)

    run_state_machine_as_test(Families, settings=bounded(examples=20, steps=20))
