"""The warm servers that stages are forked from.

Two layers, each a process that has imported what its stages need and runs nothing itself:

    torch      torch and torch.export; a trace starts here, so that what it imports is seen to be its own
    tensorrt   a fork of the first that has imported TensorRT and Torch-TensorRT on top, while a trace already runs

The servers see no GPU, and build everywhere as on a machine without. Where a driver is loaded, TensorRT does not
survive a fork: there the second layer is not used, and its jobs start from nothing. So do jobs that need a GPU.

A request is a line {"job": folder}, with {"fresh": "gpu" | "no gpu"} for a process that is no fork; the answer is a
line {"job", "status", "peak"} once that process has ended, `status` as os.waitstatus_to_exitcode gives it. A server
whose socket closes kills its children and ends: a trtbuild that was killed leaves no process behind.

    python -m trtbuild.worker.server --torch FD --tensorrt FD [--eager]

The second layer is forked with the first request for it, or at once where it is known to be needed (--eager).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

# Where the servers keep the user's CUDA_VISIBLE_DEVICES, if it is set, for processes that need a GPU.
GPUS = "TRTBUILD_WORKER_GPUS"

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", type=int, required=True)
    parser.add_argument("--tensorrt", type=int, required=True)
    parser.add_argument("--eager", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A collection writes to every object it looks at, and so unshares the pages that forks have in common.
    gc.disable()
    torch_layer = socket.socket(fileno=options.torch)
    tensorrt_layer = socket.socket(fileno=options.tensorrt)
    if not _load(torch_layer, _import_torch):
        _end()

    def fork_tensorrt() -> None:
        if os.fork() == 0:
            torch_layer.close()
            die_with_parent()
            if _load(tensorrt_layer, _import_tensorrt):
                _serve(tensorrt_layer)
            _end()
        tensorrt_layer.close()

    if options.eager:
        fork_tensorrt()
        _serve(torch_layer)
    else:
        _serve(torch_layer, {tensorrt_layer.fileno(): fork_tensorrt})
    # The second layer ends as this one does; who waits for this process waits for both.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    _end()


def _end() -> NoReturn:
    """End without taking the interpreter down piece by piece, which with torch in it takes a second."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, in case nobody else can any more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _import_torch() -> None:
    import torch
    import torch._dynamo
    import torch.export

    # What every job begins with.
    from trtbuild.worker import guard, job, watch  # noqa: F401

    # A parallel operation before a fork would leave the child waiting for threads that it does not have.
    torch.set_num_threads(1)


def _import_tensorrt() -> None:
    from trtbuild.stages import gpuless

    gpuless.import_torch_tensorrt()


def _load(control: socket.socket, load: Callable[[], None]) -> bool:
    try:
        load()
    except BaseException as error:
        import traceback

        _say(control, {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()})
        return False
    gc.collect()
    gc.freeze()
    _say(control, {"ready": os.getpid()})
    return True


def _say(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(message).encode() + b"\n")


def _serve(control: socket.socket, once: Mapping[int, Callable[[], None]] = MappingProxyType({})) -> None:
    """Answer requests until the socket closes; `once` says what to do when another descriptor is first written to."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    for fd in once:
        poll.register(fd, select.POLLIN)
    running: dict[int, tuple[int, str]] = {}
    rest = b""
    while True:
        for fd, _ in poll.poll():
            if fd in once:
                poll.unregister(fd)
                once[fd]()
            elif fd in running:
                pid, job = running.pop(fd)
                _, status, usage = os.wait4(pid, 0)
                poll.unregister(fd)
                os.close(fd)
                _say(control, {"job": job, "status": os.waitstatus_to_exitcode(status), "peak": usage.ru_maxrss * 1024})
            else:
                try:
                    data = control.recv(1 << 16)
                except ConnectionError:
                    data = b""
                if not data:
                    for pid, _ in running.values():
                        # What a stage started itself is in its group, see `_fork`.
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(pid, signal.SIGKILL)
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    request = json.loads(line)
                    fresh = request.get("fresh")
                    pid = _spawn(request["job"], fresh == "gpu") if fresh else _fork(control, request["job"])
                    pidfd = os.pidfd_open(pid)
                    running[pidfd] = (pid, request["job"])
                    poll.register(pidfd, select.POLLIN)


def _spawn(folder: str, with_gpu: bool) -> int:
    environment = dict(os.environ)
    if with_gpu:
        visible = environment.pop(GPUS, None)
        if visible is None:
            del environment["CUDA_VISIBLE_DEVICES"]
        else:
            environment["CUDA_VISIBLE_DEVICES"] = visible
    return os.posix_spawn(
        sys.executable, [sys.executable, "-P", "-m", "trtbuild.worker.job", folder], environment, setpgroup=0
    )


def _fork(control: socket.socket, folder: str) -> int:
    pid = os.fork()
    if pid:
        # Both sides set the group, so that it is set whoever comes first.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    try:
        control.close()
        os.setpgid(0, 0)
        die_with_parent()
        from trtbuild.worker import job

        os._exit(job.main(folder))
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    os._exit(70)


if __name__ == "__main__":
    main()
