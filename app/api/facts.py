"""What is learned about a request on its way in, for log and metrics on its way out."""

from dataclasses import dataclass

from starlette.types import Scope

UNMATCHED = "unmatched"
_KEY = "taskyard.facts"


@dataclass(slots=True)
class RequestFacts:
    """The route's full template and the caller; unknown paths share one label."""

    route: str = UNMATCHED
    user: str | None = None


def open_facts(scope: Scope) -> RequestFacts:
    """Attach new facts to a request and return them."""
    facts = scope[_KEY] = RequestFacts()
    return facts


def facts_of(scope: Scope) -> RequestFacts:
    """Return the facts of a request; outside the middleware, facts that nobody reads."""
    facts = scope.get(_KEY)
    return facts if isinstance(facts, RequestFacts) else RequestFacts()
