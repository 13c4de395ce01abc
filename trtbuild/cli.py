"""The command line: arguments into calls of `api`, results into text or one JSON document, errors into exit codes.

Data goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trtbuild import __version__
from trtbuild.errors import Exit, TrtbuildError

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code (see `errors.Exit`)."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except TrtbuildError as error:
        if getattr(options, "json", False):
            print(json.dumps(error.as_json(), indent=2))
        print(error.render(), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, what was running is dropped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; that is its business, and the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.DONE
    except Exception:
        import traceback

        traceback.print_exc()
        print(f"error: This is a bug in trtbuild {__version__}: please report it with the lines above", file=sys.stderr)
        return Exit.BUG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trtbuild", description="A declarative build system for TensorRT artifacts.")
    parser.add_argument("--version", action="version", version=f"trtbuild {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = _recipes(commands, "run", "build recipes", _run)
    run.add_argument("-j", "--jobs", type=_positive, metavar="N", help="stages at once (default: one per core)")
    run.add_argument("--keep-going", action="store_true", help="after a failure go on with what does not depend on it")
    run.add_argument("--force", action="store_true", help="run every stage again")
    run.add_argument("--skip-unbuildable", action="store_true", help="leave out what this machine cannot build")
    run.add_argument("--rebuild-check", action="store_true", help="then build all a second time, and compare")
    run.add_argument(
        "--sandbox", choices=("off", "audit", "enforce"), help="what stages may read, see README (default: audit)"
    )
    run.add_argument("--other-gpu", action="store_true", help="verify on a GPU that the target does not name, too")
    run.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors and the artifacts")
    run.add_argument("-v", "--verbose", action="store_true", help="show cached stages one by one")

    plan = _recipes(commands, "plan", "what would run, and why; runs nothing", _plan)
    plan.add_argument("--force", action="store_true", help="as if with run --force")

    explain = commands.add_parser("explain", help="why a stage ran or would run, key input by key input")
    explain.add_argument("recipe", metavar="RECIPE")
    explain.add_argument("stage", metavar="STAGE", nargs="?", help="a stage's id, with or without the recipe's name")
    _common(explain, _explain)

    graph = _recipes(commands, "graph", "the plan as a graph", _graph)
    graph.add_argument(
        "--as", dest="form", choices=("text", "dot", "mermaid", "svg"), default="text", help="how to draw it"
    )

    inspect = commands.add_parser("inspect", help="what an artifact is, made from what, for where")
    inspect.add_argument("file", metavar="FILE", help="an artifact, its folder or its manifest.json")
    inspect.add_argument("--layers", action="store_true", help="ask the engines themselves, which needs a GPU")
    inspect.add_argument("--json", action="store_true", help="one JSON document on stdout")
    inspect.set_defaults(command=_inspect)

    verify = _artifacts(commands, "verify", "compare artifacts with their source model, on this machine's GPU", _verify)
    verify.add_argument("-j", "--jobs", type=_positive, default=1, metavar="N", help="artifacts at once (default: 1)")
    verify.add_argument("--locate", action="store_true", help="find the first layer or partition that is off")

    bench = _artifacts(commands, "bench", "latency beside PyTorch, on this machine's GPU", _bench)
    bench.add_argument(
        "--at",
        action="append",
        default=[],
        type=_point,
        metavar="batch=8",
        help="sizes to measure at (may be repeated)",
    )
    bench.add_argument("--seconds", type=_seconds, default=1.0, help="time to measure each row (default: 1)")
    bench.add_argument(
        "--rounds", type=_positive, default=3, metavar="N", help="turns that each row takes (default: 3)"
    )
    bench.add_argument(
        "--peer",
        action="append",
        metavar="P",
        help="eager, torch.compile, torch-tensorrt (default: all); none for none",
    )
    bench.add_argument("--plot", metavar="FILE", help="draw latency over batch size, as .svg or .png")
    bench.add_argument(
        "--from", dest="record", metavar="FILE", help="measure nothing: show and draw this --json of before"
    )

    cache = commands.add_parser("cache", help="the store: info, gc, verify, path")
    actions = cache.add_subparsers(required=True, metavar="ACTION")
    for name, text, action in (
        ("info", "counts and sizes, and what sharing saves", _cache_info),
        ("verify", "read all of it, and drop what is damaged so that it is built again", _cache_verify),
        ("path", "where it lies", _cache_path),
    ):
        _store_options(actions.add_parser(name, help=text), action)
    gc = actions.add_parser(
        "gc", help="remove what nothing refers to; never what artifacts in dist/ or running builds need"
    )
    gc.add_argument("--max-size", type=_size, metavar="20GB", help="remove the least recently used beyond this size")
    gc.add_argument("--max-age", type=_age, metavar="30d", help="remove what was not used for this long")
    gc.add_argument("--dry-run", action="store_true", help="say what would be removed, remove nothing")
    _store_options(gc, _cache_gc)

    doctor = commands.add_parser("doctor", help="what this machine can build and run, and what to install for the rest")
    doctor.add_argument("--json", action="store_true", help="one JSON document on stdout")
    doctor.set_defaults(command=_doctor)

    schema = commands.add_parser("schema", help="the JSON Schema of recipes")
    schema.add_argument("--json", action="store_true", help="as always: the schema is a JSON document")
    schema.set_defaults(command=_schema)
    return parser


def _recipes(commands: Any, name: str, text: str, command: Command) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("recipes", metavar="RECIPE", nargs="+", help="recipes, or folders of recipes")
    parser.add_argument(
        "--target", action="append", default=[], metavar="NAME", help="only this target (may be repeated)"
    )
    parser.add_argument("--format", action="append", default=[], metavar="F", help="only this format (may be repeated)")
    _common(parser, command)
    return parser


def _artifacts(commands: Any, name: str, text: str, command: Command) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument(
        "artifacts", metavar="ARTIFACT", nargs="*" if name == "bench" else "+", help="files, or folders"
    )
    parser.add_argument("--other-gpu", action="store_true", help="on a GPU that the target does not name, too")
    parser.add_argument(
        "--source", metavar="FOLDER", help="the workspace of the source model (default: the artifact's)"
    )
    _store_options(parser, command)
    return parser


def _common(parser: argparse.ArgumentParser, command: Command) -> None:
    parser.add_argument("--dist", metavar="FOLDER", help="where artifacts go (default: dist/ of the workspace)")
    _store_options(parser, command)


def _store_options(parser: argparse.ArgumentParser, command: Command) -> None:
    parser.add_argument(
        "--cache", metavar="FOLDER", help="the store (default: cache/ of the workspace, or TRTBUILD_CACHE)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.set_defaults(command=command)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return value


def _size(text: str) -> int:
    from trtbuild.store.limits import bytes_from_text

    try:
        return bytes_from_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _age(text: str) -> float:
    from trtbuild.store.limits import seconds_from_text

    try:
        return seconds_from_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _session(options: argparse.Namespace, recipes: list[str]) -> Any:
    from trtbuild.api import open_session

    targets, formats = getattr(options, "target", []), getattr(options, "format", [])
    return open_session(recipes, targets=targets, formats=formats, cache=options.cache, dist=options.dist)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _run(options: argparse.Namespace) -> int:
    from trtbuild import api
    from trtbuild.views.progress import Progress
    from trtbuild.views.result import artifact_rows, summary

    with Progress(sys.stderr, quiet=options.quiet, verbose=options.verbose) as progress:
        result = api.run(
            options.recipes,
            targets=options.target,
            formats=options.format,
            jobs=options.jobs,
            keep_going=options.keep_going,
            force=options.force,
            skip_unbuildable=options.skip_unbuildable,
            rebuild_check=options.rebuild_check,
            sandbox=options.sandbox,
            other_gpu=options.other_gpu,
            cache=options.cache,
            dist=options.dist,
            listener=progress,
        )
    for error in result.errors:
        print(error.render(), file=sys.stderr)
    if options.json:
        _print_json(result.to_json())
    elif result.artifacts:
        print(artifact_rows([(found.path, found.bytes, found.verification) for found in result.artifacts]))
    if result.checks and not options.json:
        from trtbuild.views.reproduce import render_checks

        print(render_checks(result.checks))
    if not options.quiet:
        print(summary(result.counts(), len(result.left_out)), file=sys.stderr)
    return result.exit_code


def _plan(options: argparse.Namespace) -> int:
    from trtbuild.api import preview
    from trtbuild.views.plan import PlanRow, render_plan

    session = _session(options, options.recipes)
    planned = preview(session, force=options.force)
    left_out = [cell for cell in session.plan.cells if cell.reason]
    if options.json:
        cells = [
            {"cell": cell.name, "step": cell.step, "path": cell.path, "reason": cell.reason, "hint": cell.hint}
            for cell in session.plan.cells
        ]
        _print_json({"stages": [found.to_json() for found in planned], "cells": cells})
    else:
        print(render_plan([PlanRow(found.id, found.action, found.reason) for found in planned], left_out))
    return Exit.DONE


def _explain(options: argparse.Namespace) -> int:
    from trtbuild.api import explain
    from trtbuild.views.plan import render_explain

    found = explain(_session(options, [options.recipe]), options.stage)
    if options.json:
        _print_json([one.to_json() for one in found])
    else:
        print("\n".join(map(render_explain, found)))
    return Exit.DONE


def _graph(options: argparse.Namespace) -> int:
    from trtbuild.api import preview
    from trtbuild.views.graph import render_graph

    session = _session(options, options.recipes)
    if options.json:
        _print_json(session.plan.to_json())
    else:
        print(render_graph(session.plan, options.form, {found.id: found.action for found in preview(session)}))
    return Exit.DONE


def _inspect(options: argparse.Namespace) -> int:
    from trtbuild.inspection import manifest_at
    from trtbuild.views.inspect import render_manifest

    manifest = manifest_at(Path(options.file))
    if options.layers:
        from trtbuild.outside import layers

        manifest = {**manifest, "live": layers(options.file)}
    if options.json:
        _print_json(manifest)
    else:
        print(render_manifest(manifest))
    return Exit.DONE


def _verify(options: argparse.Namespace) -> int:
    from trtbuild.outside import verify
    from trtbuild.views.verification import render_verification

    done = verify(
        options.artifacts,
        other_gpu=options.other_gpu,
        locate=options.locate,
        jobs=options.jobs,
        source=options.source,
        cache=options.cache,
    )
    if options.json:
        told = [{"path": str(one.subject.path), "verification": one.record} for one in done]
        errors = [{"error": one.error.as_json()} if one.error else {} for one in done]
        _print_json([{**one, **error} for one, error in zip(told, errors, strict=True)])
    for one in done:
        if one.record is not None and not options.json:
            print(one.subject.path, render_verification(one.record), sep="\n")
        if one.error is not None:
            print(one.error.render(), file=sys.stderr)
    codes = [one.error.exit_code for one in done if one.error is not None]
    wrong = any(one.record is not None and one.record["status"] != "passed" for one in done)
    return max(codes, default=Exit.STAGE_FAILED if wrong else Exit.DONE)


def _bench(options: argparse.Namespace) -> int:
    from trtbuild.outside import bench
    from trtbuild.views.bench import plot, render_bench

    if options.record:
        records = _records_in(options.record)
    elif not options.artifacts:
        from trtbuild.errors import UsageError

        raise UsageError("Nothing to measure is named", hint="Name artifacts, or with --from what was measured before.")
    else:
        done = bench(
            options.artifacts,
            points=options.at or None,
            seconds=options.seconds,
            rounds=options.rounds,
            peers=None if options.peer is None else [peer for peer in options.peer if peer != "none"],
            other_gpu=options.other_gpu,
            source=options.source,
            cache=options.cache,
        )
        records = [record for _, record in done]
    if options.json:
        _print_json(records)
    else:
        print("\n\n".join(render_bench(record) for record in records))
    if options.plot:
        # Last: what was measured is not lost with a picture that cannot be written.
        plot(records, Path(options.plot))
    return Exit.DONE


def _records_in(path: str) -> Any:
    from trtbuild.errors import UsageError
    from trtbuild.files import read_json

    records = read_json(Path(path))
    measured = [record for record in records if isinstance(record, dict)] if isinstance(records, list) else []
    if not any("points" in record for record in measured) or measured != records:
        raise UsageError(
            "The file holds no measurements", [("file", path)], "It is what `trtbuild bench --json` prints."
        )
    return records


def _point(text: str) -> dict[str, int]:
    try:
        return {name: int(size) for name, size in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be sizes of dims as in batch=8,tokens=64, not {text!r}") from None


def _store(options: argparse.Namespace) -> Any:
    from trtbuild.store.local import LocalStore
    from trtbuild.workspace import find_workspace

    return LocalStore(find_workspace([], Path(options.cache) if options.cache else None).cache)


def _cache_info(options: argparse.Namespace) -> int:
    from trtbuild.views.cache import render_info

    info = _store(options).info()
    if options.json:
        _print_json(info)
    else:
        print(render_info(info))
    return Exit.DONE


def _cache_gc(options: argparse.Namespace) -> int:
    from trtbuild.store.gc import collect
    from trtbuild.views.cache import render_collected

    done = collect(_store(options), max_size=options.max_size, max_age=options.max_age, dry_run=options.dry_run)
    if options.json:
        _print_json(done.to_json())
    else:
        print(render_collected(done))
    return Exit.DONE


def _cache_verify(options: argparse.Namespace) -> int:
    from trtbuild.store.verify import verify
    from trtbuild.views.cache import render_verified

    done = verify(_store(options))
    if options.json:
        _print_json(done.to_json())
    else:
        print(render_verified(done))
    return Exit.DONE


def _cache_path(options: argparse.Namespace) -> int:
    path = str(_store(options).root)
    if options.json:
        _print_json({"path": path})
    else:
        print(path)
    return Exit.DONE


def _doctor(options: argparse.Namespace) -> int:
    from trtbuild.doctor import examine
    from trtbuild.views.doctor import render_report

    report = examine()
    if options.json:
        _print_json(report.as_json())
    else:
        print(render_report(report))
    return Exit.DONE


def _schema(options: argparse.Namespace) -> int:
    from trtbuild.recipe import json_schema

    _print_json(json_schema())
    return Exit.DONE
