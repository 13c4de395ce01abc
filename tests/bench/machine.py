"""What results say of where they were measured: enough to judge them by, nothing that names a machine."""

from __future__ import annotations

import os
import sys

from trtbuild.host import has_gpu


def machine() -> str:
    """Cores, GPU or none, and the Python that measured."""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {'a' if has_gpu() else 'no'} GPU, Python {'.'.join(map(str, sys.version_info[:3]))}"
