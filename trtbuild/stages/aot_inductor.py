"""AOTInductor: a program as a package of native code that stock `torch._inductor.aoti_load_package` loads.

Patches to third-party code, each with the fault it answers, as in `gpuless`; all were run on torch 2.11 and 2.14:

- exports: a compiler may link the C++ standard library into the package's shared library (`g++ -static-libstdc++`, or
  a toolchain that always does), and all of that copy is exported. As the package is loaded in a fresh process, half of
  its symbols are bound to the copy that torch's libraries use, half to its own: `std::regex` in the entry point then
  asks one copy's locale for a facet by the other's id, and the process ends with std::bad_cast or a segmentation
  fault, for models on a CPU too. Seen with g++ 13.3 on one host, and with g++ 12 given that option. A version script
  leaves nothing exported but the entry points that torch looks up, and so keeps each copy whole. `-Bsymbolic`,
  `-fno-gnu-unique`, `-fvisibility-inlines-hidden` and `-static-libstdc++` do not help; loading libstdc++ globally
  before does, but is the user's to do.
- march: `-march=native` and the widest vectors of the building machine's CPU go into the code, so that it neither runs
  on an older CPU nor is the same from two machines. Here it is x86-64-v3 (AVX2), which torch wants to be fast anyway;
  the number of threads is asked for at run time.
- names and paths: files are named for a hash of the command line, and their paths stand in the code. Here they have
  one name, and paths begin at the build's own folder. The sources, without which 2.11 does not load a package, hold
  the command lines in comments, which are left out.

Source: torch/_inductor/cpp_builder.py; https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trtbuild.digests.archive import Archive, write_archive
from trtbuild.errors import StageError
from trtbuild.stages.user_code import first_lines

# What the loader looks up: torch/csrc/inductor/aoti_runtime/interface.h. The names of all of them begin so.
_EXPORTS = "{ global: AOTInductor*; local: *; };\n"

_MARCH = "march=x86-64-v3"

_OPTIONS = {
    "aot_inductor.model_name_for_generated_files": "model",
    # A header compiled ahead is left in a folder that all users share.
    "aot_inductor.precompile_headers": False,
    "cpp.simdlen": 256,
    "cpp.dynamic_threads": True,
    # Measuring kernels on the building machine would choose between them anew in each build.
    "deterministic": True,
}

_ID = ".data/serialization_id"


def write_package(program: Any, target: Path) -> None:
    """Compile an ExportedProgram that has example inputs. StageError where there is no C++ compiler, or it fails."""
    import torch._inductor

    _check_compiler()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/cache"
        _patch_flags(Path(folder))
        package = Path(folder, "model.pt2")
        try:
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(package), inductor_configs=dict(_OPTIONS)
            )
        except Exception as error:
            raise StageError("AOTInductor cannot compile the program", [("raised", first_lines(error, 12))]) from error
        _write_without_paths(package, target, folder)


def _check_compiler() -> None:
    from torch._inductor import config, cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, RuntimeError) as error:
        wanted = config.cpp.cxx if isinstance(config.cpp.cxx, (list, tuple)) else [config.cpp.cxx]
        raise StageError(
            "AOTInductor needs a C++ compiler, and there is none",
            [("looked for", ", ".join(str(name) for name in wanted if name)), ("PATH", os.environ.get("PATH", ""))],
            "Install g++ (Debian and Ubuntu: `apt install g++`).",
        ) from error


def _patch_flags(folder: Path) -> None:
    import torch
    from torch._inductor import cpp_builder

    script = folder / "exports.map"
    script.write_text(_EXPORTS)
    include = Path(torch.__file__).parent / "include"
    own = [f"ffile-prefix-map={folder}=.", f"ffile-prefix-map={include}=torch"]
    original = cpp_builder._get_optimization_cflags

    def flags(*args: Any, **options: Any) -> tuple[list[str], list[str]]:
        compiling, linking = original(*args, **options)
        kept = [_MARCH if flag.startswith("march=") else flag for flag in compiling]
        return [*kept, *own], [*linking, f"Wl,--version-script={script}"]

    cpp_builder._get_optimization_cflags = flags


def _write_without_paths(package: Path, target: Path, folder: str) -> None:
    with Archive(package) as archive:
        kept = [name for name in archive.names if name != _ID]
        mark = hashlib.sha256()

        def members() -> Iterator[tuple[str, bytes]]:
            for name in kept:
                data = bytes(archive[name])
                if name.endswith(".cpp"):
                    data = b"".join(line for line in data.splitlines(True) if folder.encode() not in line)
                mark.update(f"{name} {zlib.crc32(data)}\n".encode())
                yield f"model/{name}", data
            yield f"model/{_ID}", f"{int(mark.hexdigest(), 16) % 10**40:040d}".encode()

        with target.open("wb") as file:
            write_archive(file, members())
