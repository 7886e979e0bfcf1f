"""Progress of long work, shown where somebody looks."""

import sys

from tqdm import tqdm


def progress(iterable=None, total=None, label="", shown=True, **settings):
    """`tqdm` with at most a line a second, gone when it is done, and silent where nobody looks:
    the output is neither a terminal nor a notebook."""
    quiet = not shown or not (in_notebook() or sys.stderr.isatty())
    return tqdm(
        iterable, total=total, desc=label, mininterval=1.0, maxinterval=1.0, leave=False, disable=quiet, **settings
    )


def in_notebook():
    """Whether this runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None
