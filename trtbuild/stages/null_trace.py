"""A null stage in the place of a trace: it discovers what it reads, so that discovery too can be tested without torch.

Its entry point is any text; a line `read PATH` in a file, relative to the workspace, names another that it reads. Its
output holds what the lines say without what follows a `#`: a comment does not change its meaning.
"""

from __future__ import annotations

from typing import Any

from trtbuild.digest import canonical, digest_bytes
from trtbuild.worker.job import Job


def run(job: Job) -> dict[str, Any]:
    """Write the settings and all that was read into `null.json`; details: `reads`, as a watched stage has them."""
    digests: dict[str, str | None] = {}
    texts: dict[str, list[str] | None] = {}
    left = [str(job.settings["entry"]).rpartition(":")[0]]
    while left:
        name = left.pop()
        if name in digests:
            continue
        try:
            data = (job.workspace / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            digests[name] = texts[name] = None
            continue
        digests[name] = digest_bytes(data)
        lines = [line.partition("#")[0].strip() for line in data.decode("utf-8", "replace").splitlines()]
        texts[name] = [line for line in lines if line]
        left += [line.removeprefix("read ").strip() for line in lines if line.startswith("read ")]
    files = {slot: path.read_text() for slot, path in job.files.items()}
    text = canonical({"settings": dict(job.settings), "read": texts, "files": files})
    (job.out / str(job.settings["writes"])).write_text(text)
    return {"reads": {"reads": dict(sorted(digests.items())), "distributions": {}, "by": "kernel"}}
