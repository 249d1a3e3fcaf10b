"""Waking a thread of a worker, also from a signal handler that interrupts itself."""

import signal
import threading

from bertq_workers.background.wakeup import WakeUp


def test_a_signal_handler_may_interrupt_a_wake_up() -> None:
    wake_up, calls = WakeUp(), 0

    def handler(*_: object) -> None:
        nonlocal calls
        calls += 1
        wake_up.wake()

    # The time that this thread computes: the tests' own alarm is another signal.
    before = signal.signal(signal.SIGVTALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 1e-5, 1e-5)
        while calls < 200:
            wake_up.wake()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    wake_up.wait(10)


def test_many_wake_ups_are_one() -> None:
    wake_up, woken = WakeUp(), threading.Event()
    wake_up.wake()
    wake_up.wake()
    wake_up.wait(60)

    def sleep() -> None:
        wake_up.wait(60)
        woken.set()

    thread = threading.Thread(target=sleep)
    thread.start()
    assert not woken.wait(0.1)
    wake_up.wake()
    assert woken.wait(20)
    thread.join()
