"""Look up known vulnerabilities of the locked libraries, with pip-audit.

Exit status 0: all libraries were looked up, none is known to be vulnerable; 1: some are; 3: some could not be looked
up, which pip-audit by itself passes. Further arguments are pip-audit's, such as `--vulnerability-service osv`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP_AUDIT = (str(Path(sys.executable).with_name("uv")), "tool", "run", "--from", "pip-audit==2.10.1", "pip-audit")
OPTIONS = ("--format", "json", "--progress-spinner", "off", "--disable-pip", "--require-hashes")
LOCKS = (*sorted((ROOT / "config" / "runtimes").glob("*.txt")), ROOT / "requirements.txt")
"""The small ones first: where their libraries cannot be looked up, hundreds more are not asked for."""
VULNERABLE, NOT_LOOKED_UP = 1, 3
NAMED = 5


def audit(command: Sequence[str] = PIP_AUDIT, arguments: Sequence[str] = ()) -> int:
    """Run `command`, pip-audit, on each lock and print what it found; returns the exit status.

    Ends with the first lock of which not all libraries were looked up, or some are vulnerable.
    """
    for lock in LOCKS:
        full = [*command, *OPTIONS, "--requirement", str(lock), *arguments]
        done = subprocess.run(full, stdout=subprocess.PIPE, text=True, check=False)
        if status := _status(lock.name, done):
            return status
    return 0


def _status(lock: str, done: subprocess.CompletedProcess[str]) -> int:
    try:
        libraries = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        sys.stdout.write(f"{lock}: pip-audit ended with {done.returncode} and no result: nothing was looked up.\n")
        return NOT_LOOKED_UP
    skipped = [one["name"] for one in libraries if "skip_reason" in one]
    vulnerable = [one for one in libraries if one.get("vulns")]
    for one in vulnerable:
        names = ", ".join(each["id"] for each in one["vulns"])
        sys.stdout.write(f"{lock}: {one['name']} {one['version']} is known to be vulnerable: {names}\n")
    sys.stdout.write(f"{lock}: {len(libraries) - len(skipped)} of {len(libraries)} libraries were looked up.\n")
    if skipped:
        sys.stdout.write(f"Not looked up: {', '.join(skipped[:NAMED])} and {len(skipped[NAMED:])} more.\n")
    return VULNERABLE if vulnerable else NOT_LOOKED_UP if skipped or not libraries else 0


if __name__ == "__main__":
    sys.exit(audit(arguments=sys.argv[1:]))
