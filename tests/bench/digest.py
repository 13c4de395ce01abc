"""What digests of meaning cost: beside the export they follow, and beside plain hashing of the same file.

python -m tests.bench.digest [MEGABYTES]

ResNet-50 is exported and saved; a program of one stack of layers has the given size (default 1024). Of each file the
digest of its meaning, all that a job says of an output, the insides of its weights' file, `sha256sum` and `openssl` are
timed in turns, and the best of each counts. Processor seconds say more than wall seconds where others use the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.machine import machine
from trtbuild.digests import canonical_digest
from trtbuild.digests.outputs import describe_output
from trtbuild.insides import insides_of

ROUNDS = 5
IMAGE = (3, 224, 224)


def main(megabytes: str = "1024") -> None:
    """Measure and print."""
    import torch

    print(f"{machine()}, torch {torch.__version__}; wall s / processor s, best of {ROUNDS}")
    with tempfile.TemporaryDirectory() as folder:
        _resnet(Path(folder))
        _large(Path(folder), int(megabytes))


def _resnet(folder: Path) -> None:
    import torch
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet50().eval()
    batch = torch.export.Dim("batch", min=1, max=32)
    path = folder / "resnet50.pt2"

    def trace() -> None:
        with torch.no_grad():
            program = torch.export.export(model, (torch.rand(8, *IMAGE),), dynamic_shapes={"x": {0: batch}})
        torch.export.save(program, path)

    trace()
    traced, digest = _best(trace, lambda: canonical_digest(path))
    _report("ResNet-50: export and save", traced)
    _report("  digest of the program's meaning", digest, traced, "export and save")
    weights = folder / "resnet50.safetensors"
    from safetensors.torch import save_file

    save_file(model.state_dict(), weights)
    _files(path, weights)


def _large(folder: Path, megabytes: int) -> None:
    import torch
    from safetensors.torch import save_file

    width = 2048
    layers = max(1, (megabytes << 20) // (4 * width * width))
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width, bias=False) for _ in range(layers))).eval()
    path, weights = folder / "large.pt2", folder / "large.safetensors"
    with torch.no_grad():
        torch.export.save(torch.export.export(model, (torch.rand(1, width),)), path)
    save_file(model.state_dict(), weights)
    del model
    print(f"{layers} layers of {width} x {width}")
    _files(path, weights)


def _files(program: Path, weights: Path) -> None:
    tools = [command for command in (["sha256sum"], ["openssl", "dgst", "-sha256"]) if shutil.which(command[0])]
    size = program.stat().st_size

    def tool(command: list[str]) -> Callable[[], Any]:
        return lambda: subprocess.run([*command, str(program)], check=True, stdout=subprocess.DEVNULL)

    names = [
        "digest of the program's meaning",
        "all that is said of the output",
        "insides of the same weights",
        *(t[0] for t in tools),
    ]
    found = _best(
        lambda: canonical_digest(program),
        lambda: describe_output(program, meaning=True),
        lambda: insides_of(weights),
        *map(tool, tools),
    )
    for name, took in zip(names, found, strict=True):
        _report(f"  {name}", took, found[-1], names[-1], size)


def _best(*actions: Callable[[], Any]) -> list[tuple[float, float]]:
    """Wall and processor seconds of each action, those of processes it starts included; in turns, the best of each."""
    best = [(float("inf"), float("inf"))] * len(actions)
    for _ in range(ROUNDS):
        for index, action in enumerate(actions):
            wall, cpu = time.perf_counter(), _cpu()
            action()
            took = time.perf_counter() - wall, _cpu() - cpu
            best[index] = (min(best[index][0], took[0]), min(best[index][1], took[1]))
    return best


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _report(
    name: str, took: tuple[float, float], of: tuple[float, float] | None = None, what: str = "", size: int = 0
) -> None:
    text = f"{name:<36} {took[0]:7.3f} / {took[1]:6.2f}"
    if size:
        text += f"  {size / took[0] / 1e6:6.0f} MB/s"
    if of:
        text += f"  {took[0] / of[0]:6.3f} / {took[1] / of[1]:.3f} of {what}"
    print(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
