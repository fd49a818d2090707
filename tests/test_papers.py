"""The map from papers to code and tests says what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "napari_multiphase"
TEXT = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| (?P<place>[^|]+) \| [^|]+ \| `(?P<file>[^`]+)` `(?P<name>[^`]+)` \| `(?P<test>[^`]+)` `(?P<case>[^`]+)` \|$"
)
SECTIONS = {"PCN": "methods/pcn.py", "HPN": "methods/hpn.py", "SAM + URIM": "methods/urim", "PaNN": "methods/pann.py"}


def rows() -> list[tuple[str, dict[str, str]]]:
    found, section = [], ""
    for line in TEXT.splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| ") and not line.startswith(("| place", "| ---")):
            match = ROW.match(line)
            assert match, f"not a row of the map: {line}"
            found.append((section, match.groupdict()))
    return found


@pytest.mark.parametrize(
    ("section", "row"), rows(), ids=lambda value: value if isinstance(value, str) else value["name"]
)
def test_what_a_row_names_is_there(section, row):
    code = (SOURCE / row["file"]).read_text(encoding="utf-8")
    assert re.search(rf"^(class|def) {re.escape(row['name'])}\b", code, re.MULTILINE), row
    tests = (ROOT / row["test"]).read_text(encoding="utf-8")
    assert re.search(rf"^def {re.escape(row['case'])}\(", tests, re.MULTILINE), row


@pytest.mark.parametrize("section", SECTIONS)
def test_every_equation_that_the_code_names_has_a_row(section):
    """A method's own file says which equations it implements; each is in the map, under its paper."""
    path = SOURCE / SECTIONS[section]
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    named = {m for file in files for m in re.findall(r"Eq\. \d+|Algorithm \d+", file.read_text(encoding="utf-8"))}
    mapped = {row["place"] for own, row in rows() if own == section}
    assert named, f"{SECTIONS[section]} names no equation of its paper"
    assert named <= mapped, named - mapped
