"""What is exported without a GPU, each loaded in a fresh process with plain torch and compared with the model."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.stages.running import EXPORT, fresh, run_stage
from trtbuild.digests.archive import Archive

torch = pytest.importorskip("torch")

BATCH = {"batch": {"min": 1, "opt": 4, "max": 8}}


def tensor(*shape: Any) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": "float32", "format": "contiguous"}


SUM = [
    {"name": "a", **tensor("batch", 8)},
    {"name": "pair", "tuple": [tensor("batch", 8), {"list": [tensor("batch", 8)]}]},
    {"name": "named", "dict": {"z": tensor("batch", 8)}},
    {"name": "gain", "keyword": True, **tensor("batch", 1)},
]
TOKENS = [{"name": "x", **tensor("batch", "tokens", 32)}]

MODEL = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests" / "models")!r})
import nets, torch
torch.manual_seed(0)
torch.set_grad_enabled(False)
flat = torch.utils._pytree.tree_leaves

def near(found, expected):
    for one, other in zip(flat(found), flat(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

def sums(n):
    r = torch.randn
    return (r(n, 8), (r(n, 8), [r(n, 8)]), {{"z": r(n, 8)}}), {{"gain": r(n, 1)}}
"""


def trace(folder: Path, entry: str, inputs: list[dict[str, Any]], dims: dict[str, Any]) -> Path:
    """The trace of a model of tests/models/nets.py, its weights drawn under the seed 0."""
    shutil.copytree(ROOT / "tests" / "models", folder / "trace" / "models")
    settings = {
        "entry": f"{folder}/trace/models/nets.py:{entry}",
        "args": {},
        "seed": 0,
        "inputs": inputs,
        "cast": "fp32",
        "dims": dims,
        "strict": False,
        "decompositions": "default",
    }
    run_stage(folder / "trace" / "out", "trtbuild.stages.trace", settings, {})
    return folder / "trace" / "out" / "program.pt2"


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trace(tmp_path_factory.mktemp("nested"), "Sum", SUM, BATCH)


def settings(form: str, inputs: list[dict[str, Any]] = SUM, **changed: Any) -> dict[str, Any]:
    return {
        "format": form,
        "platform": "linux-x86_64",
        "runtime": "torch",
        "device": "cpu",
        "compute_capability": [],
        "precision": "fp32",
        "export": EXPORT,
        "inputs": inputs,
        "dims": BATCH,
        **changed,
    }


def export(out: Path, given: dict[str, Any], program: Path, **more: Any) -> dict[str, Any]:
    return run_stage(out, "trtbuild.stages.export", given, {"program": {"program.pt2": program}}, **more)


def test_a_program_without_tensorrt_is_the_trace_without_its_examples(nested: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.write_text("cat\ndog")
    details = export(tmp_path / "cpu", settings("exported_program"), nested, files={"extra:labels.txt": labels})
    assert details["engine"] is None and details["calls"] == "structured"
    printed = fresh(
        MODEL
        + """
extra = {"labels.txt": ""}
program = torch.export.load(sys.argv[1], extra_files=extra)
assert program.example_inputs is None
model, found = nets.Sum().eval(), program.module()
for n in (1, 4, 8):
    args, kwargs = sums(n)
    near(found(*args, **kwargs), model(*args, **kwargs))
print(extra["labels.txt"])
""",
        tmp_path / "cpu" / "model.pt2",
    )
    assert printed == "cat\ndog\n"


def test_a_program_for_a_gpu_names_no_cpu_and_no_folder(nested: Path, tmp_path: Path) -> None:
    export(tmp_path / "cuda", settings("exported_program", device="cuda"), nested)
    with Archive(tmp_path / "cuda" / "model.pt2") as archive:
        for name in archive.names:
            if name.endswith(".json"):
                assert b'"cpu"' not in archive[name], name
        assert b"nets.py" not in archive["models/model.json"]
        weights = json.loads(bytes(archive["data/weights/model_weights_config.json"]))["config"]
    assert {str(found["tensor_meta"]["device"]) for found in weights.values()} == {"{'type': 'cuda', 'index': 0}"}


def test_an_extra_file_that_is_no_text_is_refused(nested: Path, tmp_path: Path) -> None:
    (tmp_path / "icon").write_bytes(b"\xff\xd8")
    said = export(tmp_path / "out", settings("exported_program"), nested, files={"extra:icon.jpg": tmp_path / "icon"})
    assert said["error"].startswith("The extra file `icon.jpg` is no text") and not list((tmp_path / "out").iterdir())


def test_torchscript_takes_the_tensors_flat_and_keeps_sizes(nested: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.write_text("cat")
    for number in (1, 2):
        out = tmp_path / f"sum{number}"
        details = export(out, settings("torchscript"), nested, files={"extra:labels.txt": labels})
        assert details["calls"] == "flat"
    assert (tmp_path / "sum1" / "model.ts").read_bytes() == (tmp_path / "sum2" / "model.ts").read_bytes()
    printed = fresh(
        MODEL
        + """
extra = {"labels.txt": ""}
found, model = torch.jit.load(sys.argv[1], _extra_files=extra), nets.Sum().eval()
for n in (1, 4, 8):
    args, kwargs = sums(n)
    near(found(*flat((args, kwargs))), model(*args, **kwargs))
print(extra["labels.txt"].decode())
""",
        tmp_path / "sum1" / "model.ts",
    )
    assert printed == "cat\n"


def test_torchscript_computes_with_sizes(tmp_path: Path) -> None:
    dims = {**BATCH, "tokens": {"min": 2, "opt": 6, "max": 16}}
    program = trace(tmp_path, "Attention", TOKENS, dims)
    export(tmp_path / "out", settings("torchscript", TOKENS, dims=dims), program)
    fresh(
        MODEL
        + """
found, model = torch.jit.load(sys.argv[1]), nets.Attention().eval()
for batch, tokens in ((1, 2), (4, 6), (8, 16)):
    x = torch.randn(batch, tokens, 32)
    near(found(x), model(x))
""",
        tmp_path / "out" / "model.ts",
    )


LOAD_PACKAGE = (
    MODEL
    + """
found, model = torch._inductor.aoti_load_package(sys.argv[1]), nets.Sum().eval()
for n in (1, 4, 8):
    args, kwargs = sums(n)
    near(found(*args, **kwargs), model(*args, **kwargs))
print("loaded")
"""
)


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_a_package_of_native_code_loads_in_a_fresh_process_and_is_the_same_from_every_build(
    nested: Path, tmp_path: Path
) -> None:
    """Two builds in other folders; then one by a compiler that links the C++ library into what it makes, whose stock
    packages end the process that loads them."""
    for name in ("one", "another"):
        export(tmp_path / name / "out", settings("aot_inductor"), nested, TMPDIR=str(_folder(tmp_path / name / "tmp")))
    packages = [tmp_path / name / "out" / "model.aoti.pt2" for name in ("one", "another")]
    assert packages[0].read_bytes() == packages[1].read_bytes()
    assert str(tmp_path).encode() not in packages[0].read_bytes()
    assert fresh(LOAD_PACKAGE, packages[0]) == "loaded\n"


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_a_package_with_a_c_library_of_its_own_loads_in_a_fresh_process(nested: Path, tmp_path: Path) -> None:
    """Its stock package ends the process that loads it, see aot_inductor.py."""
    compiler = tmp_path / "g++"
    compiler.write_text(
        '#!/bin/sh\ncase " $* " in *" -shared "*) exec g++ "$@" -static-libstdc++ ;; esac\nexec g++ "$@"\n'
    )
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    export(tmp_path / "out", settings("aot_inductor"), nested, CXX=str(compiler))
    assert fresh(LOAD_PACKAGE, tmp_path / "out" / "model.aoti.pt2") == "loaded\n"


def test_without_a_compiler_the_message_says_what_to_install(nested: Path, tmp_path: Path) -> None:
    said = export(tmp_path / "out", settings("aot_inductor"), nested, CXX=str(tmp_path / "no-such-compiler"))
    assert said["error"] == "AOTInductor needs a C++ compiler, and there is none"
    assert "g++" in said["hint"] and str(tmp_path / "no-such-compiler") in str(said["facts"])


@pytest.mark.parametrize("form", ["torchscript", "aot_inductor"])
def test_what_runs_on_a_gpu_is_not_written_without_one(form: str, nested: Path, tmp_path: Path) -> None:
    said = export(tmp_path / "out", settings(form, device="cuda"), nested)
    assert said["error"].endswith("is written on a GPU, and there is none")


def test_the_torchscript_frontend_is_not_run_without_a_gpu(nested: Path, tmp_path: Path) -> None:
    given = settings("torchscript", ir="ts", converter="torch-tensorrt", options={}, profiles=[])
    said = run_stage(tmp_path / "out", "trtbuild.stages.compile", given, {"program": {"program.pt2": nested}})
    assert said["error"].startswith("The TorchScript frontend compiles on the GPU")


def test_a_file_of_the_torchscript_frontend_is_the_artifact(tmp_path: Path) -> None:
    script = tmp_path / "program.ts"
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), script)
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"engines": [], "whole": None, "script": "program.ts"}))
    labels = tmp_path / "labels"
    labels.write_text("cat")
    compiled = {"compiled": {"report.json": report, "program.ts": script}}
    given = settings("torchscript", device="cuda", runtime="tensorrt-rtx", ir="ts")
    details = run_stage(tmp_path / "copied", "trtbuild.stages.export", given, compiled)
    assert details["copies"] == {"model.ts": ["compiled", "program.ts"]}
    run_stage(tmp_path / "out", "trtbuild.stages.export", given, compiled, {"extra:labels.txt": labels})
    extra = {"labels.txt": ""}
    loaded = torch.jit.load(tmp_path / "out" / "model.ts", _extra_files=extra)
    assert extra["labels.txt"] == b"cat" and loaded(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]


def test_a_program_is_exported_once_more_with_the_sizes_that_inputs_share(nested: Path) -> None:
    from trtbuild.errors import StageError
    from trtbuild.stages.stock_export import example_inputs, retraced

    given = settings("exported_program")
    program = torch.export.load(nested)
    program.example_inputs = example_inputs(given)
    (symbol,) = retraced(program, given).range_constraints.values()
    assert (symbol.lower, symbol.upper) == (1, 8)
    with pytest.raises(StageError) as error:
        retraced(program, {**given, "export": {**EXPORT, "dynamic_shapes": "inferred"}})
    assert '`dynamic_shapes = "explicit"`' in error.value.hint


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_program_exported_once_more_is_read_without_running_a_pickle(
    protocol: int, nested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path / "out", settings("exported_program", export=_retrace(pickle_protocol=protocol)), nested)
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    program = torch.export.load(tmp_path / "out" / "model.pt2")
    assert (program.example_inputs is None) == (protocol == 4)


def _retrace(**changed: Any) -> dict[str, Any]:
    return {**EXPORT, "retrace": True, **changed}


def test_an_op_without_words_in_torchscript_is_named(tmp_path: Path) -> None:
    from trtbuild.errors import StageError
    from trtbuild.stages.torchscript import write_torchscript

    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))

    program = torch.export.export(Branching(), (torch.randn(3),))
    with pytest.raises(StageError, match="no words") as error:
        write_torchscript(program, {}, tmp_path / "model.ts")
    assert "cond" in str(error.value.facts)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
