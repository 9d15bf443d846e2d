"""typical_mistakes_test.py ESPALIER FOLDER: what plugin authors get wrong most is found by `plugins validate`, in words that
name the place and the way to mend it. The cases are in typical_mistakes.json."""

import json
import pathlib
import subprocess
import sys


def remarks_on(program, folder, case):
    run = subprocess.run([program, "plugins", "validate", folder / f"{case['plugin']}.espalier.so", "--json", "--only",
                          case["check"]], capture_output=True, text=True)
    assert run.returncode == 1, f"exit code {run.returncode}: {run.stderr}"
    return [remark for check in json.loads(run.stdout)["checks"]
            if check.get("component", "") == case["component"] and check["outcome"] in ("fail", "warn")
            for remark in check["remarks"]]


def main():
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    cases = json.loads((pathlib.Path(__file__).parent / "typical_mistakes.json").read_text())
    wrong = []
    for case in cases:
        remarks = remarks_on(program, folder, case)
        said = json.dumps(remarks, ensure_ascii=False)
        print(f"{case['mistake']}: {said}")
        missing = [words for words in case["says"] if words not in said]
        if not remarks or missing:
            wrong.append(f"{case['mistake']}: {case['check']} does not say {missing or 'anything'}")
        elif not any(remark.get("hint") for remark in remarks):
            wrong.append(f"{case['mistake']}: {case['check']} does not say how to mend it")
    print("\n".join(wrong) if wrong else f"{len(cases)} of {len(cases)} mistakes named")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
