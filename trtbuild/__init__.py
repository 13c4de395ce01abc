"""trtbuild: a declarative build system for TensorRT artifacts.

`run`, `plan`, `explain`, `verify` and `bench` are what the commands of these names do, see `trtbuild.api`; `load` makes
an artifact a callable, see `trtbuild.runtime`.
"""

from __future__ import annotations

# As typing's own, which is not imported for it: the command answers in less time than that takes.
TYPE_CHECKING = False

__version__ = "0.1.0"

__all__ = ["BuildResult", "__version__", "bench", "explain", "load", "plan", "run", "verify"]

if TYPE_CHECKING:
    from typing import Any

    from trtbuild.api import BuildResult, bench, run, verify
    from trtbuild.api import explain_recipe as explain
    from trtbuild.api import plan_recipes as plan
    from trtbuild.runtime import load

# What machines that only run a model need stands alone: it imports nothing of the rest.
_NAMES = {
    "run": "run",
    "BuildResult": "BuildResult",
    "plan": "plan_recipes",
    "explain": "explain_recipe",
    "verify": "verify",
    "bench": "bench",
}


def __getattr__(name: str) -> Any:
    # The version is asked far more often than a build is run: nothing is imported before it is used.
    if name == "load":
        from trtbuild.runtime import load

        return load
    if name in _NAMES:
        from trtbuild import api

        return getattr(api, _NAMES[name])
    raise AttributeError(f"module 'trtbuild' has no attribute {name!r}")
