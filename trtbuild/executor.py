"""Where jobs run: the protocol the build loop knows, and this machine as its one implementation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trtbuild.files import read_json
from trtbuild.stages.table import Layer
from trtbuild.toolchain import toolchain
from trtbuild.worker.job import perform
from trtbuild.worker.outcome import Outcome

if TYPE_CHECKING:
    from trtbuild.worker.pool import Pool


class Executor(Protocol):
    """Takes folders with a job.json, tells how each ended."""

    def submit(self, layer: Layer, folder: Path) -> None:
        """Start a job; returns at once, or when it ended where that is as good."""

    def next_done(self, timeout: float | None) -> list[Outcome]:
        """Jobs that ended; waits for one until the time is over."""

    def close(self) -> None:
        """End whatever still runs."""


class LocalExecutor:
    """Inline jobs in this process, the others in forks of warm servers, which start with the first that needs one."""

    def __init__(self, layers: Iterable[Layer], log: Path) -> None:
        self._layers = [layer for layer in dict.fromkeys(layers) if layer != "inline"]
        self._log = log
        self._pool: Pool | None = None
        self._done: list[Outcome] = []

    def warm(self) -> None:
        """Start the servers; they import while the caller goes on."""
        if self._pool is None:
            from trtbuild.worker.pool import Pool

            self._pool = Pool(self._layers, self._log)

    def submit(self, layer: Layer, folder: Path) -> None:
        if layer == "inline":
            (folder / "out").mkdir()
            result = perform(folder, read_json(folder / "job.json"))
            self._done.append(Outcome(folder, 0, 0, result))
        else:
            self.warm()
            assert self._pool is not None
            self._pool.submit(layer, folder)

    def next_done(self, timeout: float | None) -> list[Outcome]:
        if self._done:
            done, self._done = self._done, []
            return done
        return self._pool.next_done(timeout) if self._pool is not None else []

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


class EarlyExecutor:
    """Workers that begin to import while the plan is still made, where there is one to make: it will need them."""

    def __init__(self) -> None:
        self._early: LocalExecutor | None = None

    def start(self, log: Path) -> None:
        """Start the workers of every layer, once."""
        if self._early is None and toolchain().torch is not None:
            self._early = LocalExecutor(("torch", "tensorrt"), log)
            self._early.warm()

    def __call__(self, layers: Iterable[Layer], log: Path) -> LocalExecutor:
        """The executor for the layers that the plan needs: the early one if there is one, and no more than once."""
        early, self._early = self._early, None
        if early is not None and any(layer != "inline" for layer in layers):
            return early
        if early is not None:
            early.close()
        return LocalExecutor(layers, log)

    def close(self) -> None:
        """End the workers if nobody asked for them."""
        if self._early is not None:
            self._early.close()
