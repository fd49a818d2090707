"""The label table: the one home of structure ids, names, colours and groups.

Ids are exclusive per voxel. Nesting is by group: a liver volume is ids 1 + 21, a pancreas 6 + 22 + 23.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

BACKGROUND = 0
IGNORE = 255
"""Voxels nobody reviewed: left out of losses and metrics."""
UNKNOWN = 254
"""Training only: none of the structures that were annotated in this case; what else lies here is not known."""


@dataclass(frozen=True)
class Structure:
    """One row of the table. `colour` is sRGB in [0, 255]; `group` is the id of the organ it belongs to."""

    id: int
    name: str
    colour: tuple[int, int, int]
    group: int
    kind: str  # "organ", "vessel", "bone" or "lesion"


def _table(*rows: tuple[int, str, tuple[int, int, int], int, str]) -> MappingProxyType[int, Structure]:
    return MappingProxyType({row[0]: Structure(*row) for row in rows})


STRUCTURES = _table(
    (1, "liver", (160, 92, 60), 1, "organ"),
    (2, "spleen", (140, 86, 190), 2, "organ"),
    (3, "right kidney", (70, 165, 80), 3, "organ"),
    (4, "left kidney", (45, 165, 155), 4, "organ"),
    (5, "aorta", (214, 45, 45), 5, "vessel"),
    (6, "pancreas", (240, 205, 60), 6, "organ"),
    (7, "stomach", (226, 130, 170), 7, "organ"),
    (8, "gallbladder", (150, 195, 60), 8, "organ"),
    (9, "inferior vena cava", (50, 95, 200), 9, "vessel"),
    (10, "portal and splenic vein", (80, 160, 235), 10, "vessel"),
    (11, "superior mesenteric artery", (255, 105, 90), 11, "vessel"),
    (12, "right adrenal", (205, 170, 120), 12, "organ"),
    (13, "left adrenal", (185, 150, 90), 13, "organ"),
    (14, "oesophagus", (120, 90, 130), 14, "organ"),
    (15, "duodenum", (245, 170, 150), 15, "organ"),
    (16, "small bowel", (215, 165, 185), 16, "organ"),
    (17, "colon", (165, 125, 155), 17, "organ"),
    (18, "spine and bones", (228, 220, 195), 18, "bone"),
    (19, "lungs", (110, 170, 190), 19, "organ"),
    (20, "heart", (190, 65, 95), 20, "organ"),
    (21, "liver tumour", (255, 140, 0), 1, "lesion"),
    (22, "pancreatic mass", (255, 165, 40), 6, "lesion"),
    (23, "pancreatic duct", (255, 195, 90), 6, "lesion"),
)

IDS_BY_NAME = MappingProxyType({s.name: s.id for s in STRUCTURES.values()})


def ids_of_group(group: int) -> tuple[int, ...]:
    """The ids that together make up an organ, itself first: ``ids_of_group(6) == (6, 22, 23)``."""
    return tuple(s.id for s in STRUCTURES.values() if s.group == group)


def name_of(label: int) -> str:
    """The structure's name, or ``"label 40"`` for an id outside the table."""
    structure = STRUCTURES.get(label)
    return structure.name if structure else f"label {label}"
