"""mutations_test.py ESPALIER PLUGIN: every component of a plugin full of mistakes is found by the check that its property
`violates` names, with words on how to mend it."""

import json
import subprocess
import sys


def main():
    program, plugin = sys.argv[1:]
    run = subprocess.run([program, "plugins", "validate", plugin, "--json", "--timeout", "3"],
                         capture_output=True, text=True)
    report = json.loads(run.stdout)
    # Nothing runs that is not needed: a plugin with mistakes is refused by nobody but the validator.
    listed = json.loads(subprocess.run([program, "plugins", "inspect", report["plugin"], "--plugins", plugin, "--json"],
                                       capture_output=True, text=True, check=True).stdout)
    wrong = []
    for component in listed["components"]:
        name, expected = component["name"], component["properties"]["violates"]
        checks = {check["id"]: check for check in report["checks"] if check["component"] == name}
        found = [check_id for check_id, check in checks.items() if check["outcome"] in ("fail", "warn")]
        check = checks.get(expected)
        if check is None or check["outcome"] not in ("fail", "warn"):
            wrong.append(f"{name}: {expected} is {check and check['outcome']}; found by {found or 'nothing'}")
            continue
        remark = check["remarks"][0]
        print(f"{name}: {expected}: {remark['what']}; {remark.get('found', '')} -> {remark.get('hint', '')}")
        if not any("hint" in remark or "expected" in remark for remark in check["remarks"]):
            wrong.append(f"{name}: {expected} does not say how to mend it")
    if run.returncode != 1:
        wrong.append(f"exit code {run.returncode}, expected 1")
    print("\n".join(wrong) if wrong else f"{len(listed['components'])} mistakes found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
