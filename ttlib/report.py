"""The report: tables made from records, for the README and for the end of the batch.

A table stands in the README between `<!-- table:NAME -->` and `<!-- end -->`. NAME is
`chapters`, `claims/<preset>`, `cost/<preset>`, `rows/<study>`, or `scores/<study>`; what lies between is rewritten.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import yaml

from ttlib import batch
from ttlib.checkpoints import written_atomically
from ttlib.paths import ROOT
from ttlib.records import band_text, claims_table, number_text, read, read_all, verdict_text
from ttlib.studies import scores

TABLE = re.compile(r"(<!-- table:(\S+) -->\n)(.*?)(<!-- end -->)", re.S)


def readme(root=ROOT):
    """The README's text as the records say it should be.

    Raises:
        ValueError: a marker names a table that there is not.
    """
    text = (Path(root) / "README.md").read_text(encoding="utf-8")
    return TABLE.sub(lambda found: found[1] + table(found[2], root) + "\n" + found[4], text)


def table(name, root=ROOT):
    """One Markdown table, by the name in its marker."""
    kind, _, which = name.partition("/")
    if name == "chapters":
        return _chapters_table(root)
    if kind == "claims":
        records = read_all(which, root)
        claims = [(record["chapter"], claim) for record in records for claim in record["claims"]]
        return claims_table(claims) if claims else "No record yet."
    if kind == "cost":
        return _cost_table(read_all(which, root))
    if kind == "rows":
        return _rows_table(read(Path(root) / "figures" / "studies" / f"{which}.json"))
    if kind == "scores":
        return scores.table(read(Path(root) / "figures" / "studies" / f"{which}.json"))
    there = "chapters, claims/<preset>, cost/<preset>, rows/<study> and scores/<study>"
    raise ValueError(f"README.md asks for a table {name!r}; there are {there}.")


def _chapters_table(root):
    ledger = yaml.safe_load((Path(root) / "figures" / "claims.yaml").read_text(encoding="utf-8"))
    lines = ["| chapter | what it shows |", "| --- | --- |"]
    for name, chapter in ledger["chapters"].items():
        title = f"{name[:2]} {chapter['title']}"
        link = f"[{title}](notebooks/{name}.ipynb)" if chapter["built"] else f"{title} *(not yet built)*"
        lines.append(f"| {link} | {chapter['teaches']} |")
    return "\n".join(lines)


def _cost_table(records):
    if not records:
        return "No record yet."
    lines = ["| chapter | minutes | peak memory, MiB | device | commit |", "|" + " --- |" * 5]
    for record in records:
        run = record["provenance"]
        memory = "-" if run["peak_mib"] is None else f"{run['peak_mib']:,}"
        cells = record["chapter"], f"{run['minutes']:.1f}", memory, run["device"], run["commit"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _rows_table(record):
    heads = list(record["rows"][0])
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in record["rows"]:
        cells = (number_text(row[head]) if isinstance(row[head], float) else str(row[head]) for head in heads)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def batch_table(preset="quick", only=None, root=ROOT):
    """What `make reproduce` ends with, `(text, ok)`: what each chapter took and each of its
    claims; ok where every chapter ran."""
    rows, ran = [("chapter", "minutes", "peak MiB", "claim", "measured", "band", "paper", "")], True
    for chapter in batch.chapters(preset, only, root):
        measured = batch.outputs(chapter, preset, root)[1]
        if not measured.is_file():
            rows.append((chapter, "-", "-", "did not run to its end", "", "", "", "FAIL"))
            ran = False
            continue
        run = json.loads(measured.read_text())
        cost = chapter, f"{run['minutes']:.2f}", f"{run['peak_mib'] or '-'}"
        path = Path(root) / "figures" / preset / f"{chapter}.json"
        claims = read(path)["claims"] if run["record"] and path.is_file() else []
        if not claims:
            rows.append((*cost, "no claims", "", "", "", ""))
        for claim in claims:
            paper = claim["paper"]
            paper = "-" if paper is None else paper if isinstance(paper, str) else number_text(paper)
            value = f"{number_text(claim['value'])} {claim['unit']}"
            rows.append((*cost, claim["id"], value, band_text(claim["band"]), paper, verdict_text(claim)))
            cost = "", "", ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]]), ran


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m ttlib.report", description=__doc__.splitlines()[0])
    parser.add_argument(
        "task", choices=["readme", "table"], help="rewrite the README's tables; print the batch's table"
    )
    parser.add_argument("only", nargs="?", help="a chapter; default: all")
    parser.add_argument("--preset", default="quick")
    options = parser.parse_intermixed_args(arguments)
    try:
        if options.task == "readme":
            path = Path(ROOT) / "README.md"
            text = readme()
            if text != path.read_text(encoding="utf-8"):
                with written_atomically(path) as temporary:
                    temporary.write_text(text, encoding="utf-8")
                print("README.md: tables rewritten from the records.")
            return 0
        text, ran = batch_table(options.preset, options.only)
        print(text)
        return 0 if ran else 1
    except (ValueError, OSError) as error:
        return f"error: {error}"


if __name__ == "__main__":
    sys.exit(main())
