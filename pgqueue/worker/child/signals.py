"""A child ignores the signals that its supervisor heeds; what tasks start from it does not, or nothing could end that."""

import os
import signal

# A terminal's Ctrl-C and a container's TERM may go to every process; what a child does about them is the supervisor's business.
HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def ignore_signals() -> None:
    """Call once, in the main thread. Ignoring the signals would be inherited by programs that tasks run; handlers are not."""
    for number in HEEDED:
        signal.signal(number, _nothing)
        signal.siginterrupt(number, False)
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_hear)


def _nothing(*_: object) -> None:
    pass


def _hold() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)


def _hear() -> None:
    """In a forked process: what was sent to it since the fork takes effect now."""
    for number in HEEDED:
        if signal.getsignal(number) is _nothing:
            signal.signal(number, signal.SIG_DFL)
    _release()
