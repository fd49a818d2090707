"""The map from papers to code and tests says what is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "napari_multiphase"
TEXT = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| (?P<place>[^|]+) \| [^|]+ \| `(?P<file>[^`]+)` `(?P<name>[^`]+)` \| `(?P<test>[^`]+)` `(?P<case>[^`]+)` \|$"
)
SECTIONS = {
    "PCN": "methods/pcn",
    "HPN": "methods/hpn.py",
    "SAM + URIM": "methods/urim",
    "PaNN": "methods/pann.py",
    "Cycle- and shape-consistent GAN": "methods/csgan",
}


ARROW = re.compile(r"->\s+(``[^`]+``(?:,\s+``[^`]+``)*)")
"""What an entry of a module's "Implements" list ends in."""


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def implements() -> list[tuple[Path, str]]:
    """(module, name after an arrow) of every method and loss."""
    files = [p for folder in ("methods", "losses") for p in sorted((SOURCE / folder).rglob("*.py"))]
    texts = {path: docstring(path) for path in files}
    found = [(path, arrow) for path, text in texts.items() if "Implements" in text for arrow in ARROW.findall(text)]
    return [(path, name) for path, arrow in found for name in re.findall(r"``([^`]+)``", arrow)]


def place_of(module: Path, name: str) -> tuple[Path, list[str]]:
    """The file that a dotted name lies in, and what is left of it: "a.b.C.d" is C.d of a/b.py, of the program or beside
    `module`, or C.d of `module` itself."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        for root in (module.parent, SOURCE):
            path = root.joinpath(*parts[:count]).with_suffix(".py")
            if path.is_file():
                return path, parts[count:]
    return module, parts


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


@pytest.mark.parametrize(
    ("module", "name"), implements(), ids=lambda value: value if isinstance(value, str) else value.stem
)
def test_everything_that_a_module_implements_has_a_row(module, name):
    path, inside = place_of(module, name)
    file = path.relative_to(SOURCE).as_posix()
    mapped = {row["name"] for _, row in rows() if row["file"] == file}
    assert inside[0] in mapped if inside else mapped, f"{module.name} implements {name}: no row of it in docs/papers.md"
    for method in inside[1:]:
        assert re.search(rf"^    (async )?def {method}\(", path.read_text(encoding="utf-8"), re.MULTILINE), name


def test_every_entry_of_an_implements_list_says_where():
    for path in {module for module, _ in implements()}:
        listed = docstring(path).partition("Implements")[2].partition("\nSymbols:")[0]
        entries = listed.split("\n* ")
        assert all(ARROW.search(entry) for entry in entries[1:] or entries), path
    named = {m.parent.name if m.stem == "__init__" else m.stem for m, _ in implements()}
    assert {"hpn", "pann", "pcn", "urim", "prior", "correlation"} <= named


@pytest.mark.parametrize("file", ["hpn.py", "pann.py", "csgan/__init__.py"])
def test_a_loss_that_the_paper_does_not_have_is_a_deviation(file):
    _, _, deviations = docstring(SOURCE / "methods" / file).partition("\nDeviations: ")
    assert "``dice_weight`` above 0 adds a soft Dice" in " ".join(deviations.split())
