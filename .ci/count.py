"""Print how many tests of some JUnit files passed; exit with 1 where one failed or a file is empty."""

import sys
from pathlib import Path
from xml.etree import ElementTree

failed = 0
for path in map(Path, sys.argv[1:]):
    suites = ElementTree.parse(path).getroot().iter("testsuite")
    counts = [{key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")} for suite in suites]
    total = {key: sum(count[key] for count in counts) for key in ("tests", "failures", "errors", "skipped")}
    bad = total["failures"] + total["errors"]
    print(f"{path.stem}: {total['tests'] - bad - total['skipped']} passed, {bad} failed, {total['skipped']} skipped")
    failed += bad + (total["tests"] == 0)
print("all checks passed" if not failed else "there are failures")
sys.exit(bool(failed))
