"""Small programs and engines made for real: a program from the text of a model, an engine in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from digest_samples import SOURCE, MakeEngine, SaveProgram

ENGINES = Path(__file__).with_name("make_engine.py")


@pytest.fixture
def save_program(tmp_path: Path) -> SaveProgram:
    """Save the program of a model's text. Each call has a folder of its own, so that nothing is shared by name."""
    torch = pytest.importorskip("torch")

    def save(
        source: str = SOURCE,
        *,
        above: str = "",
        module: str = "net",
        stem: str = "program",
        batch: int = 3,
        fill: float = 0.5,
        bounds: tuple[int, int] | None = (2, 32),
        dim: str = "batch",
        dtype: Any = None,
        edit: Callable[[Any], Any] | None = None,
        decompose: bool = False,
    ) -> Path:
        folder = tmp_path / f"save{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        path = folder / f"{module}.py"
        path.write_text(above + source)
        spec = importlib.util.spec_from_file_location(module, path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        torch.manual_seed(0)
        net = loaded.Net().to(dtype or torch.float32).eval()
        if edit is not None:
            with torch.no_grad():
                edit(net)
        example = torch.full((batch, 4), fill, dtype=dtype or torch.float32)
        shapes = ({0: torch.export.Dim(dim, min=bounds[0], max=bounds[1])},) if bounds else None
        program = torch.export.export(net, (example,), dynamic_shapes=shapes)
        if decompose:
            program = program.run_decompositions({})
        torch.export.save(program, folder / f"{stem}.pt2")
        return folder / f"{stem}.pt2"

    return save


@pytest.fixture
def make_engine(tmp_path: Path) -> MakeEngine:
    """Build a small TensorRT-RTX engine in a process of its own: `kind` is conv, mlp, mobile or image."""
    pytest.importorskip("tensorrt_rtx")

    def make(kind: str, **options: object) -> bytes:
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.engine"
        words = [f"{name}={value}" for name, value in options.items()]
        done = subprocess.run(
            [sys.executable, str(ENGINES), kind, str(target), *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return target.read_bytes()

    return make
