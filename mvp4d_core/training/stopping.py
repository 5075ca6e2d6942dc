# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM between steps: a run that is asked to stop ends the step at work whole, and keeps it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets, so that the step at work ends whole; a second one acts as always."""
    stop = threading.Event()
    previous: dict[int, Any] = {}

    def request(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
