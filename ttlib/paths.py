"""Where the project's files lie."""

from pathlib import Path


def find_root(start=None):
    """The project's folder: the first one from `start` (the working directory) upwards with pyproject.toml and ttlib/.

    A copied tree thus reads and writes itself, wherever the package was installed
    from; outside of any tree it is the folder that the package lies in.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "ttlib").is_dir():
            return folder
    return Path(__file__).resolve().parents[1]


ROOT = find_root()
