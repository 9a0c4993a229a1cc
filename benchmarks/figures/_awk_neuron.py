"""The neuron in awk of examples/any-program.toml, started as a script would."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from l2l_dask.space import Params

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def driven(params: Params, current: float) -> dict[str, float]:
    """Return period, width, peak and trough; what they should be makes no difference to them."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{name} = {value}\n" for name, value in {**params, "current": current}.items()]
        Path(folder, "neuron.cfg").write_text("".join(lines))
        command = [EXAMPLES / "fitzhugh.awk", "neuron.cfg"]
        words = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.split()
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))
