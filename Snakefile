# The batch as a graph: one rule a chapter, and the studies.
#
# `make reproduce` calls it. A chapter runs again when its notebook, its parameters, the code
# of ttlib or the shipped data changed. What it leaves in build/ is what is declared; its record
# and figures in figures/<preset>/ are committed, so they are written but not declared: Snakemake
# deletes a declared output before it starts a job.

import sys
from pathlib import Path

from ttlib import batch

ROOT = Path(workflow.basedir)
PRESET = config.get("preset", "quick")
CHAPTERS = batch.chapters(PRESET, config.get("only") or None, ROOT)
SHARED = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("ttlib/**/*.py"))
SHARED += sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.glob("data/**/*")
    if path.is_file() and "cache" not in path.relative_to(ROOT).parts and not path.name.startswith(".")
)


rule chapters:
    input:
        [f"build/{PRESET}/{chapter}.json" for chapter in CHAPTERS],


for chapter in CHAPTERS:

    rule:
        name:
            f"chapter_{chapter}"
        input:
            notebook=f"notebooks/{chapter}.ipynb",
            parameters=[] if PRESET == "quick" else f"notebooks/{PRESET}/{chapter}.yaml",
            shared=SHARED,
        output:
            notebook=f"build/{PRESET}/{chapter}.ipynb",
            measured=f"build/{PRESET}/{chapter}.json",
        params:
            python=sys.executable,
            chapter=chapter,
            preset=PRESET,
        # A chapter uses every core, so one runs at a time.
        threads: workflow.cores
        shell:
            "{params.python} -m ttlib.batch run {params.chapter} --preset {params.preset}"


# `make study NAME=...` asks for the rule of that name, which writes figures/studies/<name>.json.
for rules in sorted(ROOT.glob("studies/*.smk")):

    include: str(rules)
