"""All connections of a process leave an old primary."""

import multiprocessing
import threading

import pytest

from bertq.redis.primary import Primary


def test_a_new_primary_is_known_in_the_whole_process() -> None:
    first, second, other = Primary(), Primary(), Primary()
    of_first = first.record("old", "service")
    of_other = other.record("old", "another service")
    assert second.record("old", "service") == second.generation
    assert first.generation == of_first
    of_second = second.record("new", "service")
    assert second.generation == of_second
    assert first.generation != of_first  # its connections lead to the old one
    assert other.generation == of_other
    assert (first.changes, second.changes) == (0, 1)
    assert first.record("new", "service") == first.generation
    assert second.generation == of_second
    assert first.changes == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks beside a thread
def test_a_fork_while_another_thread_connects() -> None:
    compares, end = threading.Event(), threading.Event()

    class Name(str):
        def __ne__(self, other: object) -> bool:
            compares.set()
            return end.wait(60)

    thread = threading.Thread(target=Primary().record, args=(Name("old"), "service"))
    thread.start()
    assert compares.wait(60)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=Primary().record, args=("new", "service"))
    child.start()
    try:
        child.join(20)
        assert child.exitcode == 0
    finally:
        child.kill()
        end.set()
        thread.join()
