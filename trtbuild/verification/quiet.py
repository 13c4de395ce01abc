"""onnxruntime without its telemetry: nothing of a build leaves the machine, and nothing is left in the home folder."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec


def import_onnxruntime_quietly() -> None:
    """Import onnxruntime, if it is installed.

    Seen in 1.31: as it is imported it makes a device id and a database of events below the user's cache folder, and
    sends events from it unless it is told not to. Both are settled here before a model is opened.
    """
    if find_spec("onnxruntime") is None:
        return
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()
    try:
        import onnxruntime
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
    onnxruntime.disable_telemetry_events()
