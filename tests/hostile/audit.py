"""pip-audit over what the program needs, for `make audit`, with an end that cannot be mistaken.

pip-audit alone ends with 1 both for a vulnerability and for vulnerability data that it could not
reach, or even with 0 and "no known vulnerabilities" where it could look up nothing at all. Here a
vulnerability is 1, and what was not looked up is 2.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def verdict(said: str, trouble: str) -> tuple[int, list[str]]:
    """What pip-audit's JSON and its standard error mean: an exit code, and lines for a person."""
    try:
        packages = json.loads(said)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = trouble.strip().rpartition("\n")[2] or "it said nothing"
        return 2, [
            "pip-audit could not reach its vulnerability data or the package index, so nothing is "
            "known about vulnerabilities. Run it where the internet can be reached.",
            f"  {last}",
        ]
    found = [
        f"{one['name']} {one['version']}: {hole['id']}, "
        f"mended in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for one in packages
        for hole in one.get("vulns", ())
    ]
    missed = [f"  {one['name']}: {one['skip_reason']}" for one in packages if "skip_reason" in one]
    lines = [f"{len(found)} known vulnerabilities:", *found] if found else []
    if missed or not packages:
        lines += [
            f"pip-audit found no vulnerability data for {len(missed)} of {len(packages)} packages, "
            "so nothing is known about them. Is the index one that has such data?",
            *missed,
        ]
    if found:
        return 1, lines
    if lines:
        return 2, lines
    return 0, [f"{len(packages)} packages, no known vulnerabilities"]


def main() -> int:
    asked = (
        sys.executable,
        "-m",
        "pip_audit",
        "--format",
        "json",
        "--progress-spinner",
        "off",
        ".",
    )
    ran = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    code, lines = verdict(ran.stdout, ran.stderr)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
