"""The same work for every system: recipes of four chained stages, each of which reads one small file and writes one.

Each system is set up as its documentation shows it, with what that recommends for speed. Where a system can call a
function in its own process for a stage it does; the others start `cp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

STAGES = 4


@dataclass(frozen=True, slots=True)
class System:
    """How a system is installed, set up for a number of recipes, and asked to build.

    `command` begins with the name of a console script; `prepare` holds commands that a project runs once; `artifact`
    is where what a recipe makes ends up, if it makes anything.
    """

    name: str
    requirement: str
    files: Callable[[int], Mapping[str, str]]
    command: tuple[str, ...]
    prepare: tuple[tuple[str, ...], ...] = ()
    artifact: str = "o{:04}_4.txt"


def source(recipe: int) -> str:
    """The file that a recipe begins with."""
    return f"s{recipe:04}.txt"


def _chain(recipe: int) -> Iterator[tuple[str, str]]:
    """What each stage of a recipe reads and writes."""
    before = source(recipe)
    for stage in range(1, STAGES + 1):
        after = f"o{recipe:04}_{stage}.txt"
        yield before, after
        before = after


def _trtbuild(size: int) -> dict[str, str]:
    # Through ONNX there are four stages: trace, onnx, compile, export.
    recipe = """\
[model]
entry = "{source}:net"

[inputs.x]
shape = [1]

[compile]
converter = "onnx"

[targets.target]
platform = "linux-x86_64"
runtime = "null"
formats = ["engine"]
"""
    recipes = {f"r{i:04}.toml": recipe.format(source=source(i)) for i in range(1, size + 1)}
    return {"pyproject.toml": "", **recipes}


def _doit(size: int) -> dict[str, str]:
    # Of the backends, json is the fastest for many tasks; for few they are the same. Lines per task cost time.
    return {
        "dodo.py": f"""\
from pathlib import Path

DOIT_CONFIG = {{"backend": "json", "dep_file": ".doit.json", "reporter": "zero", "verbosity": 0}}


def copy(dependencies, targets):
    Path(targets[0]).write_bytes(Path(dependencies[0]).read_bytes())


def task_copy():
    for recipe in range(1, {size} + 1):
        before = f"s{{recipe:04}}.txt"
        for stage in range(1, {STAGES} + 1):
            after = f"o{{recipe:04}}_{{stage}}.txt"
            yield {{"name": after, "file_dep": [before], "targets": [after], "actions": [copy]}}
            before = after
"""
    }


def _scons(size: int) -> dict[str, str]:
    # What SCons's guide names for speed: timestamps trusted after a second, cached scans, no tools looked for.
    return {
        "SConstruct": f"""\
from pathlib import Path

SetOption("max_drift", 1)
SetOption("implicit_cache", 1)
environment = Environment(tools=[])


def copy(target, source, env):
    Path(target[0].path).write_bytes(Path(source[0].path).read_bytes())


action = environment.Action(copy, cmdstr=None)
for recipe in range(1, {size} + 1):
    before = f"s{{recipe:04}}.txt"
    for stage in range(1, {STAGES} + 1):
        after = f"o{{recipe:04}}_{{stage}}.txt"
        environment.Command(after, before, action)
        before = after
"""
    }


def _ninja(size: int) -> dict[str, str]:
    lines = ["rule copy", "  command = cp $in $out"]
    lines += [f"build {after}: copy {before}" for i in range(1, size + 1) for before, after in _chain(i)]
    return {"build.ninja": "\n".join([*lines, ""])}


def _dvc(size: int) -> dict[str, str]:
    # Stages written out one by one are read faster than the same as `foreach`.
    lines = ["stages:"]
    for recipe in range(1, size + 1):
        for before, after in _chain(recipe):
            lines += [f"  {after.removesuffix('.txt')}:", f"    cmd: cp {before} {after}"]
            lines += ["    deps:", f"    - {before}", "    outs:", f"    - {after}"]
    return {"dvc.yaml": "\n".join([*lines, ""])}


def _snakemake(size: int) -> dict[str, str]:
    rules = [f'rule all:\n    input: expand("o{{i}}_{STAGES}.txt", i=[f"{{i:04}}" for i in range(1, {size} + 1)])\n']
    for stage in range(1, STAGES + 1):
        before = "s{i}.txt" if stage == 1 else f"o{{i}}_{stage - 1}.txt"
        rules.append(
            f'rule stage_{stage}:\n    input: "{before}"\n    output: "o{{i}}_{stage}.txt"\n'
            '    shell: "cp {input} {output}"\n'
        )
    return {"Snakefile": "\n".join(rules)}


def _pytask(size: int) -> dict[str, str]:
    return {
        "task_copy.py": f"""\
from pathlib import Path

from pytask import task

HERE = Path(__file__).parent

for recipe in range(1, {size} + 1):
    before = HERE / f"s{{recipe:04}}.txt"
    for stage in range(1, {STAGES} + 1):
        after = HERE / f"o{{recipe:04}}_{{stage}}.txt"

        @task(id=after.stem)
        def task_copy(source: Path = before, produces: Path = after) -> None:
            produces.write_bytes(source.read_bytes())

        before = after
"""
    }


def _redun(size: int) -> dict[str, str]:
    return {
        "workflow.py": f"""\
from redun import File, task

redun_namespace = "bench"


@task()
def copy(source: File, target: str) -> File:
    made = File(target)
    made.write(source.read())
    return made


@task()
def main() -> list[File]:
    ends = []
    for recipe in range(1, {size} + 1):
        file = File(f"s{{recipe:04}}.txt")
        for stage in range(1, {STAGES} + 1):
            file = copy(file, f"o{{recipe:04}}_{{stage}}.txt")
        ends.append(file)
    return ends
"""
    }


TRTBUILD = System(
    "trtbuild",
    "trtbuild",
    _trtbuild,
    ("trtbuild", "run", "."),
    artifact="dist/r{:04}/target/fp32/model.engine",
)

# What any system written in Python takes before it does anything.
NOTHING = System("python -c pass", "", lambda _: {}, ("python", "-c", "pass"), artifact="")

PEERS = {
    system.name: system
    for system in (
        System("doit", "doit", _doit, ("doit",)),
        System("ninja", "ninja", _ninja, ("ninja", "--quiet")),
        System("scons", "scons", _scons, ("scons", "-Q", "-s")),
        System("pytask", "pytask", _pytask, ("pytask", "build", "-s", "--verbose", "0")),
        System("snakemake", "snakemake", _snakemake, ("snakemake", "--cores", "1", "--quiet", "all")),
        System("redun", "redun", _redun, ("redun", "run", "workflow.py", "main")),
        System(
            "dvc",
            "dvc",
            _dvc,
            ("dvc", "repro", "--quiet"),
            prepare=(
                ("dvc", "init", "--no-scm", "--quiet"),
                ("dvc", "config", "core.analytics", "false"),
                ("dvc", "config", "core.check_update", "false"),
            ),
        ),
    )
}
