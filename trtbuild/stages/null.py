"""A stage that writes down what it was given: lets the whole engine be tested and measured without torch."""

from __future__ import annotations

from typing import Any

from trtbuild.digest import canonical
from trtbuild.worker.job import Job


def run(job: Job) -> dict[str, Any]:
    """Write the settings and the content of every input, into `null.json` or what `writes` in the settings says."""
    inputs = {slot: {name: path.read_text() for name, path in files.items()} for slot, files in job.inputs.items()}
    files = {slot: path.read_text() for slot, path in job.files.items()}
    text = canonical({"settings": dict(job.settings), "inputs": inputs, "files": files})
    (job.out / str(job.settings.get("writes", "null.json"))).write_text(text)
    return {}
