"""What was found about a machine, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtbuild.views.result import human_bytes
from trtbuild.views.text import aligned, counted

if TYPE_CHECKING:
    from trtbuild.doctor import Capability, Report, Torch
    from trtbuild.gpus import Gpu


def render_report(report: Report) -> str:
    """The machine, its packages, what it can do, and how to mend what it cannot."""
    blocks = [
        ["this machine", *aligned(_machine(report))],
        ["packages", *aligned([(name, version or "not installed") for name, version in report.packages.items()])],
        ["versions", f"  {report.versions.sentence}", *_command(report.versions.command)],
    ]
    if problems := [probe.problem for probe in report.probes if probe.problem]:
        blocks.append(["what does not load", *(f"  {problem}" for problem in problems)])
    can = [line for one in report.capabilities for line in _capability(one, report)]
    blocks.append(["what can be built and run", *can])
    return "\n\n".join("\n".join(block) for block in blocks)


def _machine(report: Report) -> list[tuple[str, ...]]:
    machine = report.machine
    with_instructions = f" with {' and '.join(machine.instructions)}" if machine.instructions else ""
    rows = [
        ("python", machine.python),
        ("system", machine.system),
        ("cpu", f"{machine.cpu}, {counted(machine.cores, 'core')}{with_instructions}"),
        ("memory", _size(machine.memory)),
        ("cache", f"{machine.cache}, {_size(machine.disk_free)} free"),
        *([("gpu", _gpu(gpu)) for gpu in machine.gpus] or [("gpu", "none")]),
        ("torch built for", _built_for(report.torch)),
    ]
    return [row for row in rows if row[1]]


def _built_for(torch: Torch | None) -> str:
    if torch is None:
        return ""
    return "CPUs only" if torch.cpu_only else f"CUDA {torch.cuda}"


def _size(count: int | None) -> str:
    return "unknown" if count is None else human_bytes(count)


def _gpu(gpu: Gpu) -> str:
    parts = [gpu.name]
    if gpu.compute_capability:
        parts.append(f"compute capability {gpu.compute_capability}")
    if gpu.driver:
        parts.append(f"driver {gpu.driver}")
    return ", ".join(parts)


def _capability(one: Capability, report: Report) -> list[str]:
    width = max(len(other.name) for other in report.capabilities)
    if one.available:
        return [f"  yes  {one.name}"]
    why = f"  no   {one.name:<{width}}  {one.why}".rstrip()
    return [why, *([f"       {'':<{width}}  {one.mend}"] if one.mend else [])]


def _command(command: str) -> list[str]:
    return [f"  {command}"] if command else []
