"""Records: what a run measured, with enough about the run to repeat it.

A chapter or a study makes one `Record`, states its claims, and writes one JSON file to
`figures/<preset>/<chapter>.json`. Tables and figures are made from these files only.
A claim is a measured value and the band in which it is expected: results differ from
machine to machine, so a band comes from several seeds, and an exact value is nowhere
asked for.
"""

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ttlib.paths import ROOT
from ttlib.provenance import commit, describe_device, lock_hash, peak_mib


@dataclass(frozen=True)
class Claim:
    """One measured value beside the band in which it should lie.

    Attributes:
        id: its name in `figures/claims.yaml`, such as "reach_rate".
        value: what was measured; None stands for a value that is not finite.
        unit: "fraction", "ms", "return", "nats" ...
        band: [low, high], both included; None leaves that side open. With both open nothing is expected, and the
            claim only reports.
        paper: the paper's figure, a number or a short text; None where it gives none.
        passed: whether the value lies in the band.
        note: how this differs from what the paper measured, where it does.
    """

    id: str
    value: float | None
    unit: str
    band: tuple
    paper: float | str | None
    passed: bool
    note: str = ""


@dataclass
class Record:
    """What one run of a chapter or study measured. Making it starts the clock.

    Args:
        chapter: the notebook's name without its ending, "05_four_rooms"; for a study its name.
        preset: "quick" or "paper"; "studies" for a study.
        parameters: the run's parameters, name to value.
        seeds: every seed that was used.
        datasets: name of each data set -> its fingerprint (`Trajectories.fingerprint`).
        rows: for a study, its table: a list of dicts with the same keys.
    """

    chapter: str
    preset: str = "quick"
    parameters: dict = field(default_factory=dict)
    seeds: list = field(default_factory=list)
    datasets: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    claims: list = field(default_factory=list, init=False)
    started: float = field(default_factory=time.monotonic, init=False, repr=False)

    def claim(self, id, value, unit, band, paper=None, note=""):
        """State a measured value and its band; gives the `Claim`.

        Raises:
            ValueError: the id is used already, or the band is not low <= high.
        """
        if any(claim.id == id for claim in self.claims):
            raise ValueError(f"the claim {id} is stated twice in {self.chapter}; give one of them another id.")
        low, high = (None if edge is None else float(edge) for edge in band)
        if low is not None and high is not None and not low <= high:
            raise ValueError(f"the band of {id} must be low <= high, but it is [{low}, {high}].")
        value = float(value)
        passed = math.isfinite(value) and (low is None or low <= value) and (high is None or value <= high)
        value = value if math.isfinite(value) else None
        self.claims.append(Claim(id, value, unit, (low, high), paper, passed, note))
        return self.claims[-1]

    def verdict(self):
        """Print a line a claim, `reach_rate in [0.99, 1.00]: PASS`: the same on every machine
        on which the claims hold, so a notebook can check it."""
        for claim in self.claims:
            print(f"{claim.id} in {band_text(claim.band)}: {verdict_text(claim)}")

    def show(self):
        """Display the claims as a table: measured value, band, the paper's figure, verdict."""
        from IPython.display import Markdown, display

        display(Markdown(claims_table([(None, claim) for claim in self.claims])))

    def as_dict(self):
        """The record as it is written, with the provenance of this process."""
        claims = [
            {key: value for key, value in asdict(claim).items() if key != "note" or value} for claim in self.claims
        ]
        record = {"chapter": self.chapter, "preset": self.preset, "provenance": self._provenance(), "claims": claims}
        return record | ({"rows": self.rows} if self.rows else {})

    def write(self, folder=None):
        """Write `<chapter>.json` to `folder` (default: `figures/<preset>`); gives its path.

        Raises:
            OSError: the file could not be written; an older one is untouched.
            TypeError: a parameter, seed or row is nothing that JSON can hold.
        """
        from ttlib.checkpoints import written_atomically

        text = json.dumps(self.as_dict(), indent=2, allow_nan=False, default=_plain) + "\n"
        path = Path(folder or ROOT / "figures" / self.preset) / f"{self.chapter}.json"
        with written_atomically(path) as temporary:
            temporary.write_text(text)
        return path

    def _provenance(self):
        import torch

        return {
            "commit": commit(),
            "lock": lock_hash(),
            "seeds": list(self.seeds),
            "datasets": dict(self.datasets),
            "device": describe_device(),
            "torch": torch.__version__,
            "minutes": round((time.monotonic() - self.started) / 60, 2),
            "peak_mib": peak_mib(),
            "parameters": dict(self.parameters),
        }


def read(path):
    """A record as it was written: a dict in the form that the README describes.

    Raises:
        FileNotFoundError: there is no such record.
        ValueError: the file is not a record.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no record {path}; run the chapter or study that writes it.")
    try:
        record = json.loads(path.read_text())
        chapter, claims, provenance = record["chapter"], record["claims"], record["provenance"]
        whole = all({"id", "value", "unit", "band", "paper", "passed"} <= set(claim) for claim in claims)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a record ({error!r}); run the chapter or study that writes it again."
        ) from None
    if chapter != path.stem or not whole or "commit" not in provenance:
        raise ValueError(f"{path} is not a whole record of {path.stem}; run the chapter or study that writes it again.")
    return record


def read_all(preset, root=None):
    """Every record of a preset (or of "studies"), in the order of the chapters."""
    return [read(path) for path in sorted((Path(root or ROOT) / "figures" / preset).glob("*.json"))]


# What a claim looks like in print: one place, for notebooks, the batch and the README.


def number_text(value):
    """A measured value in three significant digits, large ones as whole numbers: 0.994, 3,120, 4.2e-05."""
    if value is None:
        return "not finite"
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1e}"


def band_text(band):
    """`[0.99, 1.00]`; an open side is written as an infinity."""
    low, high = (_edge_text(edge, sign) for edge, sign in zip(band, ("-∞", "∞"), strict=True))
    return f"{'(' if band[0] is None else '['}{low}, {high}{')' if band[1] is None else ']'}"


def verdict_text(claim):
    """PASS or FAIL; a finite value without a band is only reported."""
    if not _get(claim, "passed"):
        return "FAIL"
    return "not judged" if tuple(_get(claim, "band")) == (None, None) else "PASS"


def claims_table(claims):
    """A Markdown table of `(chapter, claim)` pairs; without the first column where chapter is None."""
    named = any(chapter is not None for chapter, _ in claims)
    heads = (["chapter"] if named else []) + ["claim", "measured", "unit", "band", "paper", "verdict"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for chapter, claim in claims:
        paper = _get(claim, "paper")
        cells = ([chapter] if named else []) + [
            f"`{_get(claim, 'id')}`",
            number_text(_get(claim, "value")),
            _get(claim, "unit"),
            band_text(_get(claim, "band")),
            "-" if paper is None else paper if isinstance(paper, str) else number_text(paper),
            verdict_text(claim),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _edge_text(edge, infinity):
    if edge is None:
        return infinity
    if abs(edge) >= 100:
        return f"{edge:,.0f}" if edge == round(edge) else f"{edge:,}"
    return f"{edge:.2f}" if edge == round(edge, 2) else f"{edge:g}"


def _get(claim, key):
    return claim[key] if isinstance(claim, dict) else getattr(claim, key)


def _plain(value):
    """numpy scalars and arrays, and paths, as JSON holds them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a record cannot hold {value!r}; give it numbers, text, lists or dicts.")
