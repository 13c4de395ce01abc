"""The near end of the worker servers: starts them, hands out jobs, tells how each ended."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from trtbuild.errors import MachineError
from trtbuild.files import read_json, saying_what
from trtbuild.host import has_driver
from trtbuild.worker.environment import worker_environment
from trtbuild.worker.outcome import Outcome

LAYERS = ("torch", "tensorrt")


class Pool:
    """The servers of one run; those of `layers` are warmed at once, the others when a job needs them.

    Starting returns at once; a server that cannot start is told by `next_done`.
    """

    def __init__(self, layers: Collection[str], log: Path) -> None:
        self._log = log
        self._used = False
        self._sockets: dict[str, socket.socket] = {}
        self._rest: dict[str, bytes] = {}
        command = [sys.executable, "-P", "-m", "trtbuild.worker.server"]
        far: list[socket.socket] = []
        for layer in LAYERS:
            near, other = socket.socketpair()
            self._sockets[layer], self._rest[layer] = near, b""
            far.append(other)
            command += [f"--{layer}", str(other.fileno())]
        command += ["--eager"] if "tensorrt" in layers and not has_driver() else []
        environment = worker_environment()
        package = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([*filter(None, [environment.get("PYTHONPATH")]), package])
        with saying_what("write a log", log):
            log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                pass_fds=[end.fileno() for end in far],
                start_new_session=True,
            )
        for end in far:
            end.close()

    def submit(self, layer: str, folder: Path) -> None:
        """Hand a job's folder to a layer; it starts as soon as the layer is warm."""
        self._used = True
        try:
            request = {"job": str(folder)}
            if layer in ("gpu", "fresh") or (layer == "tensorrt" and has_driver()):
                request["fresh"] = "gpu" if layer == "gpu" else "no gpu"
            self._sockets["torch" if "fresh" in request else layer].sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            # What it said before it ended tells more than that it did.
            ready, _, _ = select.select(list(self._sockets.values()), [], [], 0)
            for near in ready:
                self._receive(near)
            raise self._lost(str(error)) from error

    def next_done(self, timeout: float | None = None) -> list[Outcome]:
        """Jobs that ended; waits until there is one or the time is over. MachineError where a server is lost."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select(list(self._sockets.values()), [], [], left)
            done = [outcome for near in ready for outcome in self._receive(near)]
            if done or (not ready and deadline is not None):
                return done

    def _receive(self, near: socket.socket) -> list[Outcome]:
        layer = next(name for name, known in self._sockets.items() if known is near)
        try:
            data = near.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            raise self._lost("the process ended")
        *lines, self._rest[layer] = (self._rest[layer] + data).split(b"\n")
        outcomes = []
        for line in lines:
            message = json.loads(line)
            if "failed" in message:
                raise self._broken(layer, message)
            if "job" in message:
                folder = Path(message["job"])
                result = read_json(folder / "result.json") if message["status"] == 0 else None
                outcomes.append(Outcome(folder, message["status"], message["peak"], result))
        return outcomes

    def _broken(self, layer: str, message: dict[str, Any]) -> MachineError:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(message["traceback"])
        what = {"torch": "torch", "tensorrt": "Torch-TensorRT"}[layer]
        return MachineError(
            f"The workers cannot import {what}",
            [("reason", message["failed"]), ("log", str(self._log))],
            "`trtbuild doctor` says which versions go together.",
        )

    def _lost(self, reason: str) -> MachineError:
        return MachineError(
            "A worker server was lost",
            [("reason", reason), ("log", str(self._log))],
            "Was it killed by the system for want of memory? Build fewer stages at once with -j 1.",
        )

    def close(self) -> None:
        """End the servers and whatever still runs in them."""
        for near in self._sockets.values():
            near.close()
        if not self._used:
            # It may be in the midst of an import, and hear nothing for seconds.
            self._process.kill()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
