"""The command's front door: a run with nothing to do is answered here, all else goes on to `cli`.

Nothing is imported that an answer does not need: most runs in a day of work have nothing to do.
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FLAGS = ("-q", "--quiet", "--keep-going", "--skip-unbuildable")
_VALUES = ("-j", "--jobs", "--cache", "--dist")


def main() -> int:
    """Run the command line and return its exit code (see `errors.Exit`)."""
    arguments = sys.argv[1:]
    # Nothing that the quick look reads is ever garbage: there is nothing to collect among it.
    gc.disable()
    if arguments[:1] == ["run"] and _answer(arguments[1:]):
        return 0
    gc.enable()
    from trtbuild.cli import main as command

    return command(arguments)


def _answer(arguments: Sequence[str]) -> bool:
    """Answer a `run` if it has nothing to do and is asked plainly; else keep what was found for the run itself."""
    given: list[str] = []
    flags: set[str] = set()
    values: dict[str, str] = {}
    left = iter(arguments)
    for word in left:
        if word in _FLAGS:
            flags.add(word)
        elif word in _VALUES:
            values[word] = next(left, "")
            if not values[word] or values[word].startswith("-"):
                return False
        elif word.startswith("-"):
            return False
        else:
            given.append(word)
    jobs = values.get("-j", values.get("--jobs", "1"))
    if not given or not (jobs.isascii() and jobs.isdigit() and int(jobs) > 0):
        return False

    from trtbuild import settled
    from trtbuild.places import Place, plain_recipes, root_of

    recipes = plain_recipes(given)
    if recipes is None:
        return False
    root = root_of(recipes[0].rpartition("/")[0] or "/")
    standing = settled.Standing(Place(root, values.get("--cache"), values.get("--dist")), recipes, given=given)
    if standing.left:
        settled.hand_on(standing)
        return False
    lines = standing.lines.values()
    left_out = sum(len(line["left_out"]) for line in lines)
    if left_out and "--skip-unbuildable" not in flags:
        return False
    from trtbuild.views.result import artifact_rows, summary

    artifacts = [artifact for line in lines for artifact in line["artifacts"]]
    try:
        if artifacts:
            print(artifact_rows([(found["path"], found["bytes"], found["verification"]) for found in artifacts]))
        if not flags & {"-q", "--quiet"}:
            keys = {stage[2]: len(stage) > 3 for line in lines for stage in line["stages"]}
            pending = sum(keys.values())
            print(summary({"cached": len(keys) - pending, "pending": pending}, left_out), file=sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:
        import os

        # The reader of our output has gone; that is its business, and the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True
