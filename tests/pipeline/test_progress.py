import threading

import pytest

from lm_offload.pipeline import progress as progress_module
from lm_offload.pipeline.progress import Progress
from lm_offload.schedule.task import TaskId
from tests.clock import fake_clock

FIRST, SECOND = TaskId(0, "read", 0), TaskId(1, "read", 0)


def once_waited_for(monkeypatch, progress: Progress, action, *args) -> threading.Thread:
    """Does something, for which it needs the lock, as soon as a wait has begun and let go of it."""
    begun, wait_for = threading.Event(), progress.changed.wait_for

    def noted(predicate):
        begun.set()
        return wait_for(predicate)

    def act() -> None:
        begun.wait()
        action(*args)

    monkeypatch.setattr(progress.changed, "wait_for", noted)
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_what_is_done_is_not_waited_for():
    progress = Progress()
    progress.finish(FIRST)
    assert progress.wait((FIRST,)) == 0.0
    assert progress.wait(()) == 0.0


def test_waiting_ends_when_the_last_need_is_announced(monkeypatch):
    clock = fake_clock(monkeypatch, progress_module)
    progress = Progress()
    progress.announce(FIRST)

    def announce() -> None:
        with progress.lock:
            clock.sleep(2.0)
            progress.announce(SECOND)

    thread = once_waited_for(monkeypatch, progress, announce)
    assert progress.wait((FIRST, SECOND)) == 2.0
    thread.join()


def test_an_error_ends_every_wait_and_the_first_one_counts():
    progress = Progress()
    progress.fail(OSError("first"))
    progress.fail(OSError("second"))
    with pytest.raises(OSError, match="first"):
        progress.wait((FIRST,))


def test_an_error_ends_a_wait_that_has_begun(monkeypatch):
    progress, errors = Progress(), []

    def wait() -> None:
        try:
            progress.wait((FIRST,))
        except OSError as error:
            errors.append(str(error))

    once_waited_for(monkeypatch, progress, progress.fail, OSError("broken"))
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert errors == ["broken"]


def test_tasks_of_forgotten_sweeps_count_as_done():
    progress = Progress()
    progress.finish(SECOND)
    progress.forget_before(1)
    assert progress.is_done((FIRST, SECOND))
    assert not progress.is_done((TaskId(1, "read", 5),))


def test_no_record_is_lost_that_is_made_while_others_are_forgotten():
    progress = Progress()
    tasks = [TaskId(1, "read", unit) for unit in range(20_000)]
    thread = threading.Thread(target=lambda: [progress.announce(task) for task in tasks])
    thread.start()
    while thread.is_alive():
        progress.forget_before(1)
    assert progress.is_done(tasks)
