"""Shorter ways to what SQLFluff's rules ask most: of which types is this segment?

A rule visits most segments of a file and asks each; with all rules that is a tenth of the time of
a lint. The answers are the same ones. The functions are those of one version of SQLFluff, so with
any other one nothing is replaced.
"""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any, Final

_VERSION: Final = "4.5.0"
_UNPARSABLE: Final = "unparsable"
# The types of a class with those of an instance, of which there are some hundreds.
_types: dict[tuple[type, tuple[str, ...]], frozenset[str]] = {}


def take_shortcuts() -> bool:
    """Replace the functions in this process; return False when SQLFluff is another version."""
    if version("sqlfluff") != _VERSION:
        return False
    from sqlfluff.core.parser.segments.base import BaseSegment  # noqa: PLC0415 - heavy
    from sqlfluff.core.parser.segments.raw import RawSegment  # noqa: PLC0415 - heavy
    from sqlfluff.core.rules.crawlers import SegmentSeekerCrawler  # noqa: PLC0415 - heavy
    from sqlfluff.utils.reflow.elements import ReflowElement  # noqa: PLC0415 - heavy

    original = SegmentSeekerCrawler.crawl

    def crawl(self: Any, context: Any) -> Iterator[Any]:
        # Its subclass matches in another way, and a raw stack needs every segment.
        if type(self) is SegmentSeekerCrawler and not self.provide_raw_stack:
            return _crawl(self, context)
        return original(self, context)

    replaced: tuple[tuple[Any, str, Any], ...] = (
        (BaseSegment, "is_type", _is_type),
        (RawSegment, "is_type", _is_raw_type),
        (RawSegment, "class_types", property(_raw_types)),
        (SegmentSeekerCrawler, "crawl", crawl),
        (ReflowElement, "_class_types", staticmethod(_types_of_all)),
    )
    for place, name, function in replaced:
        setattr(place, name, function)
    return True


def _is_type(self: Any, *seg_type: str) -> bool:
    return not self._class_types.isdisjoint(seg_type)


def _is_raw_type(self: Any, *seg_type: str) -> bool:
    for instance_type in self.instance_types:
        if instance_type in seg_type:
            return True
    return not self._class_types.isdisjoint(seg_type)


def _raw_types(self: Any) -> frozenset[str]:
    key = (self.__class__, self.instance_types)
    found = _types.get(key)
    if found is None:
        found = _types[key] = self._class_types.union(self.instance_types)
    return found


def _types_of_all(segments: Sequence[Any]) -> frozenset[str]:
    if len(segments) == 1:
        types: frozenset[str] = segments[0].class_types
        return types
    return frozenset(chain.from_iterable(segment.class_types for segment in segments))


def _crawl(self: Any, context: Any) -> Iterator[Any]:
    """Yield a context for each segment of the crawler's types, parents before their children."""
    segment, types = context.segment, self.types
    if not self.works_on_unparsable and segment.is_type(_UNPARSABLE):
        return
    is_match = not types.isdisjoint(segment.class_types)
    if is_match:
        yield context
    if not segment.segments or (is_match and not self.allow_recurse):
        return
    if types.isdisjoint(segment.descendant_type_set):
        return
    stack = (*context.parent_stack, segment)
    for place, child in enumerate(segment.segments):
        is_match = not types.isdisjoint(child.class_types)
        if child.segments:
            if not is_match and types.isdisjoint(child.descendant_type_set):
                continue
        elif not is_match or (not self.works_on_unparsable and child.is_type(_UNPARSABLE)):
            continue
        context.segment, context.parent_stack, context.segment_idx = child, stack, place
        if child.segments:
            yield from _crawl(self, context)
        else:
            yield context
