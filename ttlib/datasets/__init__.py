"""Data sets by name.

    load("local:hopper-medium")            collected here, in real MuJoCo, on first use
    load("local:antmaze-large-play")       walks through a maze, the same for pointmaze
    load("local:four-rooms")               demonstrations in the four-rooms environment
    load("d4rl:hopper-medium-v2")          D4RL's HDF5 file, downloaded on first use
    load("minari:mujoco/hopper/medium-v0") through the minari package
    load("file:mine.hdf5")                 a file of your own, also .npz and .safetensors

A family's module is imported when a data set of it is asked for, so that none needs the others' packages.
"""

from ttlib.datasets.scores import normalized_score

__all__ = ["load", "normalized_score"]


def load(name):
    """`Trajectories` of the data set `name`.

    Raises:
        ValueError: there is no such data set, or its data are not what they should be.
        FileNotFoundError: something that it is made from is missing.
        OSError: it cannot be downloaded, or a file cannot be written.
    """
    family, _, rest = str(name).partition(":")
    if name == "local:four-rooms":
        from ttlib.envs.demonstrations import collect

        return collect()
    if family == "local" and rest.partition("-")[0] in ("antmaze", "pointmaze"):
        from ttlib.datasets import maze_walks

        return maze_walks.load(rest)
    if family == "local":
        from ttlib.datasets import local

        return local.load(rest)
    if family == "d4rl":
        from ttlib.datasets import d4rl

        return d4rl.load(rest)
    if family == "minari":
        from ttlib.datasets import minari

        return minari.load(rest)
    if family == "file":
        from ttlib.datasets import files

        return files.load(rest)
    raise ValueError(
        f"there is no data set {name!r}; a name begins with local:, d4rl:, minari: or file:, "
        "for example local:hopper-medium, local:four-rooms, d4rl:hopper-medium-v2 or minari:mujoco/hopper/medium-v0."
    )
