"""Ask for known vulnerabilities of what the locks name: pip-audit, and an honest word where it could not ask.

    audit.py [LOCK ...]      ends with 1 if anything has a known vulnerability

pip-audit itself ends with 0 where the service knows nothing of a package, as behind a registry that answers without
its advisories: then nothing was audited, which is said here and is no failure (a check must work offline).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")
SECONDS = 300
SHOWN = 5


def main(arguments: list[str]) -> int:
    failed = False
    for name in arguments or LOCKS:
        vulnerable, text = audit(name)
        failed |= vulnerable
        print(f"audit: {name}: {text}", file=sys.stderr if vulnerable else sys.stdout, flush=True)
    return 1 if failed else 0


def audit(lock: str) -> tuple[bool, str]:
    """Whether anything in the lock is vulnerable, and what to say."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"NOT AUDITED: no answer within {SECONDS} s"
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        return False, f"NOT AUDITED: {lines[-1]}"
    return judged(report["dependencies"])


def judged(dependencies: list[dict[str, Any]]) -> tuple[bool, str]:
    """What pip-audit's report comes to."""
    asked = [one for one in dependencies if "skip_reason" not in one]
    found = [one for one in asked if one["vulns"]]
    if found:
        lines = [f"{one['name']} {one['version']}: {', '.join(map(remedy, one['vulns']))}" for one in found]
        return True, "\n  ".join([f"{len(found)} of {len(asked)} packages are vulnerable", *lines])
    if not asked:
        return (
            False,
            f"NOT AUDITED: of {len(dependencies)} packages the registry gave no advisories (offline, a mirror?)",
        )
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    if not skipped:
        return False, f"{len(asked)} packages, none with a known vulnerability"
    more = "" if len(skipped) <= SHOWN else f" and {len(skipped) - SHOWN} more"
    return False, f"{len(asked)} packages, none vulnerable; NOT AUDITED: {', '.join(skipped[:SHOWN])}{more}"


def remedy(vulnerability: dict[str, Any]) -> str:
    """Give one vulnerability's name, and what mends it."""
    fixed = vulnerability["fix_versions"]
    return f"{vulnerability['id']} (mended in {fixed[0]})" if fixed else f"{vulnerability['id']} (no fix yet)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
