"""Waking a thread of a worker, also from a signal handler that interrupts itself."""

import signal
import threading

from bertq_workers.celery_compat.wakeup import WakeUp


def test_it_is_rung_in_a_handler_while_it_is_rung() -> None:
    bell, rung = WakeUp(), 0

    def handler(*_: object) -> None:
        nonlocal rung
        rung += 1
        bell.ring()

    # The time that this thread computes: the tests' own alarm is another signal.
    before = signal.signal(signal.SIGVTALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 1e-5, 1e-5)
        while rung < 200:
            bell.ring()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    bell.wait(10)


def test_it_wakes_a_thread_and_many_rings_are_one() -> None:
    bell, woken = WakeUp(), threading.Event()
    bell.ring()
    bell.ring()
    bell.wait(60)

    def sleep() -> None:
        bell.wait(60)
        woken.set()

    thread = threading.Thread(target=sleep)
    thread.start()
    assert not woken.wait(0.1)
    bell.ring()
    assert woken.wait(20)
    thread.join()
