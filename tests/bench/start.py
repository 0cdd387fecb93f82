"""Starts one command, and writes what it cost to a descriptor.

    python -I -S start.py FD COMMAND [ARGUMENT…]

A child's peak RSS, as wait4 gives it, is never below that of the process that started it: the
bench would hide what it measures. This process is as small as Python gets.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> None:
    out, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(out, False)
    begun = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - begun
    cpu = usage.ru_utime + usage.ru_stime
    told = f"{wall} {cpu} {usage.ru_maxrss} {os.waitstatus_to_exitcode(status)}"
    os.write(out, told.encode())


main()
