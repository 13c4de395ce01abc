"""What keeping outputs in parts costs and saves: a ResNet-50's trace stored, read and published, whole and in parts.

python -m tests.bench.store
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_file
from trtbuild.digests import canonical_digest
from trtbuild.digests.outputs import describe_output
from trtbuild.store.entry import Output
from trtbuild.store.local import LocalStore

_ROUNDS = 7


def main() -> None:
    """Print the median seconds of each step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trace, tuned = folder / "trace.pt2", folder / "tuned.pt2"
        _save_traces(trace, tuned)
        whole: dict[str, Any] = {"digest": digest_file(trace), "canonical": "m", "bytes": trace.stat().st_size}
        parts = describe_output(trace, meaning=False) | {"canonical": "m"}
        print(f"trace: {whole['bytes']:,} bytes, {len(parts['parts'])} parts, {os.cpu_count()} cores")
        _show("describe, as bytes and meaning apart", lambda: (digest_file(trace), canonical_digest(trace)))
        _show("describe, with parts", lambda: describe_output(trace, meaning=True))
        for title, found in (("whole", whole), ("parts", parts)):
            _show(f"put, {title}", *_put(folder, trace, found))
            store = LocalStore(folder / "cache")
            output = Output(found["digest"], found["canonical"], found["bytes"])
            _show(f"input of a job, {title}", *_read(folder, store, output))
            _show(f"into dist/, {title}", *_publish(folder, store, output))
        store = LocalStore(folder / "cache")
        before = store.info()["bytes"]
        again = describe_output(tuned, meaning=True)
        _show("put of a checkpoint with one other layer", *_put(folder, tuned, again, keep=True), rounds=1)
        print(f"{'it takes':42} {store.info()['bytes'] - before:,} bytes of {again['bytes']:,}")


def _save_traces(trace: Path, tuned: Path) -> None:
    import torch
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet50().eval()
    x = (torch.zeros(2, 3, 224, 224),)
    torch.export.save(torch.export.export(model, x), trace)
    torch.nn.init.normal_(model.layer4[2].conv1.weight)
    torch.export.save(torch.export.export(model, x), tuned)


def _put(
    folder: Path, trace: Path, found: dict[str, Any], *, keep: bool = False
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    source = folder / "incoming"

    def prepare() -> None:
        if not keep:
            shutil.rmtree(folder / "cache", ignore_errors=True)
        shutil.copyfile(trace, source)

    return lambda: LocalStore(folder / "cache").put_output(source, found), prepare


def _read(folder: Path, store: LocalStore, output: Output) -> tuple[Callable[[], Any], Callable[[], Any]]:
    def prepare() -> None:
        shutil.rmtree(folder / ".whole", ignore_errors=True)

    return lambda: LocalStore(store.root).path_of(output, folder), prepare


def _publish(folder: Path, store: LocalStore, output: Output) -> tuple[Callable[[], Any], Callable[[], Any]]:
    target = folder / "published"
    return lambda: store.write(output, target), lambda: target.unlink(missing_ok=True)


def _show(
    title: str, action: Callable[[], Any], prepare: Callable[[], Any] = lambda: None, rounds: int = _ROUNDS
) -> None:
    seconds = []
    for _ in range(rounds):
        prepare()
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    print(f"{title:42} {sorted(seconds)[len(seconds) // 2]:.3f} s")


if __name__ == "__main__":
    main()
