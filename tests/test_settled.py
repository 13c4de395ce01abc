"""A run with nothing to do looks at stats alone, and finds all that the full look would find."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import trtbuild
from tests.test_crashes import Nulls
from trtbuild.signs import Clock, Digests, sign


class World(Nulls):
    """Four recipes; the sources of some read others."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, count=4)
        (root / "models/a.py").write_text("read models/data.txt\nread models/absent.txt\n")
        (root / "models/data.txt").write_text("data\n")
        (root / "models/linked.txt").write_text("data\n")
        (root / "models/b.py").unlink()
        (root / "models/b.py").symlink_to("linked.txt")

    def first(self, *patterns: str) -> Path:
        return next(path for pattern in patterns for path in sorted(self.root.glob(pattern)) if path.is_file())


def settle(world: World) -> None:
    for _ in range(2):
        assert world.trtbuild("run", ".").code == 0
    assert list((world.root / "cache/settled-v1").iterdir())


def rewrite(path: Path, data: bytes) -> None:
    """New content in the old inode, with the old mtime."""
    stat = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def retarget(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


CHANGES: dict[str, Callable[[World], object]] = {
    "a source, in place, of the same size and mtime": lambda w: rewrite(w.root / "models/data.txt", b"DATA\n"),
    "a file that was looked for in vain": lambda w: (w.root / "models/absent.txt").write_text("here\n"),
    "a file that is gone": lambda w: (w.root / "models/data.txt").unlink(),
    "a link that points elsewhere": lambda w: retarget(w.root / "models/b.py", "data.txt"),
    "a recipe": lambda w: rewrite(w.root / "r1.toml", (w.root / "r1.toml").read_bytes().replace(b'"fp16"', b'"bf16"')),
    "a new recipe": lambda w: shutil.copy(w.root / "r1.toml", w.root / "r9.toml"),
    "an artifact that was edited": lambda w: rewrite(w.first("dist/r1/**/model.engine"), b"x"),
    "an artifact that is gone": lambda w: w.first("dist/r1/**/model.engine").unlink(),
    "a manifest that was edited": lambda w: rewrite(w.first("dist/r1/**/manifest.json"), b"{}"),
    "what a killed run left aside": lambda w: (
        w.root / "dist/r1/linux/fp16" / f".model.engine.{'0123456789abcdef' * 2}"
    ).touch(),
    "a blob that is gone": lambda w: w.first("cache/blobs-v*/*/*").unlink(),
    "a blob that is cut": lambda w: rewrite(w.first("cache/blobs-v*/*/*"), b""),
    "an entry that is gone": lambda w: w.first("cache/entries-v*/*/*").unlink(),
    "nothing but a touch": lambda w: (w.root / "models/a.py").touch(),
    "nothing": lambda w: None,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_the_quick_look_finds_what_the_full_look_finds(tmp_path: Path, change: Callable[[World], object]) -> None:
    world = World(tmp_path / "w")
    settle(world)
    change(world)
    shutil.copytree(world.root, tmp_path / "full", symlinks=True)
    shutil.rmtree(tmp_path / "full/cache/settled-v1")
    full = World.__new__(World)
    full.root = tmp_path / "full"
    quick = world.trtbuild("run", ".", "--json")
    assert quick.code == 0, quick.err
    assert quick.statuses() == full.trtbuild("run", ".", "--json").statuses()
    assert not list((world.root / "dist").rglob(".*"))
    artifacts = {name: data for name, (data, _) in world.artifacts().items() if "manifest" not in name}
    assert artifacts == {name: data for name, (data, _) in full.artifacts().items() if "manifest" not in name}


def test_it_says_what_the_full_look_says(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    settle(world)
    plain = world.trtbuild("run", ".")
    shutil.rmtree(world.root / "cache/settled-v1")
    full = world.trtbuild("run", ".")
    assert (plain.code, plain.out, plain.err) == (full.code, full.out, full.err)


LEFT = """
import sys
from trtbuild.places import Place
from trtbuild.settled import Standing
print(Standing(Place(*sys.argv[1:4]), sys.argv[4:]).left)
"""


def test_an_installed_package_ends_it(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    (tmp_path / "site").mkdir()
    place = [str(world.root), str(world.root / "cache"), str(world.root / "dist"), str(world.root / "r1.toml")]
    environment = world.environment(first_on_path=str(tmp_path / "site"))

    def python(code: str, *arguments: str) -> str:
        command = [sys.executable, "-P", "-c", code, *arguments]
        done = subprocess.run(command, env=environment, cwd=world.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    for _ in range(2):
        python("import trtbuild; trtbuild.run('r1.toml')")
    assert python(LEFT, *place) == "[]"
    (tmp_path / "site/torch-9.9.9.dist-info").mkdir()
    assert python(LEFT, *place) == f"[{str(world.root / 'r1.toml')!r}]"


def test_any_flipped_bit_of_what_was_written_down_is_no_answer(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    settle(world)
    good = world.trtbuild("run", ".")
    (file,) = (world.root / "cache/settled-v1").iterdir()
    data = file.read_bytes()
    for place in range(7, len(data), len(data) // 24):
        file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        done = world.trtbuild("run", ".")
        assert (done.code, done.out) == (good.code, good.out), done.err
    file.write_bytes(data[: len(data) // 2])
    assert world.trtbuild("run", ".").out == good.out


def test_nothing_is_imported_that_an_answer_does_not_need(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    settle(world)

    def loaded(code: str) -> set[str]:
        command = [sys.executable, "-P", "-c", f"import sys; {code}; print(*sys.modules)"]
        done = subprocess.run(
            command, cwd=world.root, env=world.environment(), capture_output=True, text=True, check=True
        )
        return set(done.stdout.splitlines()[-1].split())

    for _ in range(2):
        found = loaded("sys.argv[1:] = ['run', '.']; from trtbuild.front import main; main()")
    found -= loaded("pass")
    heavy = {"torch", "tensorrt_rtx", "pydantic", "networkx", "argparse", "dataclasses", "pathlib", "hashlib", "typing"}
    assert "trtbuild.settled" in found and not found & (heavy | {"trtbuild.cli", "trtbuild.api"})


def test_a_change_in_the_same_tick_is_never_missed(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    source = world.root / "models/data.txt"
    engine = world.root / "dist/r0/linux/fp32/model.engine"
    for number in range(100, 180):
        source.write_text(f"{number}\n")
        trtbuild.run(world.root / "r0.toml")
        assert str(number) in engine.read_text()


def test_a_trusted_sign_shows_every_later_change(tmp_path: Path) -> None:
    clock = Clock(str(tmp_path))
    path = tmp_path / "file"
    trusted = 0
    for number in range(500):
        path.write_text(f"{number:04}")
        stat = clock.trusted(str(path))
        path.write_text(f"{number + 1:04}")
        if stat is not None:
            trusted += 1
            assert sign(path.stat()) != sign(stat)
    path.write_text("at rest")
    deadline = 1000
    while clock.trusted(str(path)) is None and deadline:
        deadline -= 1
    assert deadline or trusted


def test_a_large_file_is_digested_once_and_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trtbuild.digest

    asked: list[str] = []
    digest_file = trtbuild.digest.digest_file
    monkeypatch.setattr(trtbuild.digest, "digest_file", lambda path: asked.append(str(path)) or digest_file(path))
    path = tmp_path / "weights"
    path.write_bytes(bytes(1 << 17))
    memory = tmp_path / "stat.json"
    first = Digests(memory)
    digest = first.of(path)
    while Clock(str(tmp_path)).trusted(str(path)) is None:
        pass
    assert first.of(path) == digest
    first.save()
    seen = len(asked)
    assert Digests(memory).of(path) == digest and len(asked) == seen
    rewrite(path, b"1" + bytes((1 << 17) - 1))
    assert Digests(memory).of(path) not in (digest, None) and len(asked) == seen + 1


def test_a_digest_that_a_worker_took_is_known_unless_the_file_changed_since(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(1 << 17))
    while Clock(str(tmp_path)).trusted(str(path)) is None:
        pass
    digests = Digests(tmp_path / "stat.json")
    digests.learn_since(path, "0" * 64, digests.clock.now())
    assert digests.of(path) == "0" * 64
    since = digests.clock.now()
    rewrite(path, b"1" + bytes((1 << 17) - 1))
    digests.learn_since(path, "0" * 64, since)
    assert digests.of(path) != "0" * 64
