"""Start a command, wait for it, print its wall time, its processor time, its peak memory in KiB and its exit code.

python -I -S launch.py LOG COMMAND...

A process of its own because the kernel counts the memory of whoever starts a process to that process's peak: this one
imports nothing, and is smaller than any Python that it starts. The peak is that of the largest process of the tree.
"""

import os
import sys
import time

log, *command = sys.argv[1:]
quiet = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
]
started = time.perf_counter()
child = os.posix_spawn(command[0], command, os.environ, file_actions=quiet)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - started
print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
