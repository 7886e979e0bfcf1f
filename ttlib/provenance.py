"""Provenance: which code ran, on what, and how much memory it took."""

import hashlib
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from ttlib.paths import ROOT


def commit(root=None):
    """The commit that ran, with `+changes` where `ttlib` differed from it; "unknown" without git."""
    root = Path(root or ROOT)
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return "unknown"
    changes = _git(Path(__file__).resolve().parent, "status", "--porcelain", "--", "*.py")
    return head + ("+changes" if changes else "")


def lock_hash(root=None):
    """The first twelve digits of the SHA-256 of `requirements.lock`; "none" without one."""
    path = Path(root or Path(__file__).resolve().parents[1]) / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "none"


def describe_device(device=None):
    """The accelerator's name, or the processor's kind and the number of threads that torch uses.

    Args:
        device: what was used; if left out, the accelerator where there is one.
    """
    kind = torch.device(device).type if device else "cuda"
    if kind == "cuda" and torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def how_trained(module, curve, settings, device):
    """What a checkpoint says of its training: command, code, device, settings, minutes, and the curve, thinned out.

    Args:
        module: whose command line was called, such as "ttlib.training".
        curve: rows with the "seconds" since the row before.
        settings: a dataclass.
        device: that the model was trained on.
    """
    return {
        "command": f"python -m {module} " + " ".join(sys.argv[1:]),
        "commit": commit(),
        "device": describe_device(device),
        "settings": asdict(settings),
        "minutes": round(sum(row["seconds"] for row in curve) / 60, 1),
        "curve": curve[:: max(1, len(curve) // 200)],
    }


def tokens_in_all(about):
    """How many tokens a model has read, with those of the models from whose weights it started; None if unknown."""
    if "tokens" not in about:
        return None
    before = tokens_in_all(about["start"]) if "start" in about else 0
    return None if before is None else about["tokens"] + before


def peak_mib(children=False):
    """The most memory that this process held at once, in MiB, or, with `children`, the
    largest of the processes that it started and that have ended; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    return round(resource.getrusage(who).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def _git(folder, *arguments):
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
