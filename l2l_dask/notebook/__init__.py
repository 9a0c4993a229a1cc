"""What experiments look like in a notebook: a progress bar in one place, and live plots in a frame.

Nothing of IPython, Jupyter or Bokeh is imported here unless the process is a notebook's kernel and something is shown.
"""

from __future__ import annotations

import sys


def in_notebook() -> bool:
    """Tell whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
