"""Print the lowest versions of dependencies that pyproject.toml allows, as constraints for pip.

    python tools/lowest_versions.py > lowest.txt
    pip install -e ".[test]" -c lowest.txt

Beyond what is named there, everything is the newest that fits.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_REQUIREMENT = re.compile(r"([\w.-]+)(?:>=|==|~=)([\w.]+)")


def lowest_versions() -> dict[str, str]:
    """Return the lowest version of each dependency, those of the tests too, by its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement!r} in pyproject.toml must name its lowest version, as in 'numpy>=2.2'.")
        found[match[1]] = match[2]
    return found


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in lowest_versions().items()))
