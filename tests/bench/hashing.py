"""How fast trtbuild digests a large file, beside the fastest tool for sha256 at hand; and that it does so once.

python -m tests.bench.hashing [--mebibytes 1024] [--runs 5] [--json FILE]

The file is in the page cache. The digest is timed beside the other ways of Python's hashlib to digest a file, and
beside command line tools, the start of whose processes is included; each by its best run. Two ways are limits and no
goals: bytes that are in memory already need not be read, and a mapped file that becomes shorter ends the process.

The second part builds a null recipe that reads a large file, again with nothing changed, with a new timestamp, and once
more, and prints how many bytes trtbuild read each time, by the kernel's count.
Exits 0 also where a goal is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from tests.bench.machine import machine
from trtbuild.digest import digest_file

ROOT = Path(__file__).parents[2]
_LEAST = 0.9
_OURS = "trtbuild"
_IN_MEMORY, _MAPPED = _LIMITS = ("hashlib, bytes in memory", "hashlib, file mapped")
_READ = 64 << 20
# A run that reads more than this part of the file has read it again; trtbuild's own code is smaller.
_AGAIN = 0.1
_TOOLS = (("openssl", "dgst", "-sha256"), ("sha256sum",), ("shasum", "-a", "256"))

_RECIPE = """\
[model]
entry = "net.txt:net"

[inputs.x]
shape = [1]

[targets.target]
platform = "linux-x86_64"
runtime = "null"
formats = ["engine"]
"""


def throughput(file: Path, runs: int) -> dict[str, float]:
    """GB/s of every way, in turns: the best of each, which others on the machine disturb least."""
    whole = file.read_bytes()
    ways: dict[str, Callable[[], object]] = {
        _OURS: lambda: digest_file(file),
        "hashlib, file read whole": lambda: hashlib.sha256(file.read_bytes()).hexdigest(),
        _IN_MEMORY: lambda: hashlib.sha256(whole).hexdigest(),
        _MAPPED: lambda: _mapped(file),
    }
    for tool, *arguments in _TOOLS:
        if path := shutil.which(tool):
            command = [path, *arguments, str(file)]
            ways[tool] = lambda command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: len(whole) / min(found) / 1e9 for name, found in seconds.items()}


def _mapped(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()


def read_by_runs(root: Path) -> dict[str, int]:
    """Bytes that runs of a recipe read whose model reads a large file."""
    data = root / "data.txt"
    # A null trace keeps what lines say before a `#`: nothing, here.
    data.write_bytes((b"#" + os.urandom(1 << 10).hex().encode() + b"\n") * (_READ >> 11))
    (root / "pyproject.toml").touch()
    (root / "net.toml").write_text(_RECIPE, encoding="utf-8")
    (root / "net.txt").write_text("read data.txt\n", encoding="utf-8")
    found = {"first": _read_by_run(root), "nothing changed": _read_by_run(root)}
    os.utime(data)
    found["touched"] = _read_by_run(root)
    found["nothing changed since"] = _read_by_run(root)
    return found


def _read_by_run(root: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "trtbuild", "run", "net.toml", "--quiet"],
        cwd=root,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    # Ended and not yet waited for: its counters are still there.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    counters = Path(f"/proc/{process.pid}/io").read_text(encoding="ascii")
    if process.wait():
        raise SystemExit("error: the run failed")
    return int(counters.split("rchar:")[1].split()[0])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hashing", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--mebibytes", type=int, default=1024, metavar="N", help="size of the file (default: 1024)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of each way (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trtbuild-bench-") as folder:
        file = Path(folder) / "large"
        with file.open("wb") as stream:
            for _ in range(options.mebibytes):
                stream.write(os.urandom(1 << 20))
        speeds = throughput(file, options.runs)
        (Path(folder) / "workspace").mkdir()
        read = read_by_runs(Path(folder) / "workspace")
    ratio = speeds[_OURS] / max(speed for name, speed in speeds.items() if name not in (_OURS, *_LIMITS))
    once = all(count < _AGAIN * _READ for name, count in read.items() if name.startswith("nothing"))
    for name, speed in sorted(speeds.items(), key=lambda pair: -pair[1]):
        print(f"{name:<26} {speed:>6.2f} GB/s{', a limit' if name in _LIMITS else ''}")
    print(f"{_verdict(ratio >= _LEAST)} trtbuild / the fastest: {ratio:.2f} (at least {_LEAST})")
    for name, count in read.items():
        print(f"{name:<24} {count / 1e6:>8.1f} MB read, of a file of {_READ / 1e6:.1f} MB")
    print(f"{_verdict(once)} an unchanged file is not read again")
    if options.json:
        facts = {"date": date.today().isoformat(), "machine": machine(), "mebibytes": options.mebibytes}
        rounded = {name: round(speed, 3) for name, speed in speeds.items()}
        goals = {"ratio": round(ratio, 3), "least": _LEAST, "unchanged_file_not_read": once}
        found = {**facts, "gigabytes_per_second": rounded, "bytes_read": read, **goals}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _verdict(met: bool) -> str:
    return "met   " if met else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
