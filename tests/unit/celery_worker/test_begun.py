"""Which run a process has begun, told to its parent."""

import multiprocessing
import os

from app.celery_worker.begun import BegunRuns
from app.common.ids import new_id


def test_a_child_tells_its_parent_what_it_has_begun() -> None:
    page, first, second = BegunRuns(), new_id(), new_id()

    def work() -> None:
        page.note(first)
        page.note(second)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.pid is not None
    assert page.of(child.pid) == second
    assert page.of(os.getpid()) is None


def test_nobody_has_begun_anything_at_first() -> None:
    assert BegunRuns().of(os.getpid()) is None


def test_a_process_without_a_pool_takes_a_slot_of_its_own() -> None:
    page, run_id = BegunRuns(), new_id()

    def work() -> None:
        page.take_slot(7)
        page.note(run_id)
        page.set_deadline(100.0)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.pid is not None
    assert page.of(child.pid) == run_id
    assert not page.is_over(child.pid, 99.0)
    assert page.is_over(child.pid, 101.0)
    assert not page.has_left(child.pid)


def test_a_process_that_leaves_has_no_deadline() -> None:
    page = BegunRuns()
    page.take_slot(0)
    page.leave()
    assert page.has_left(os.getpid())
    assert not page.is_over(os.getpid(), 1e9)
    page.take_slot(0)
    assert not page.has_left(os.getpid())
