"""What a label map may consist of: the structures of the label table, and the tissues around them.

A body model has one code per voxel. Codes below 32 are ids of the label table; the others are tissues that carry no id
of their own.
"""

from __future__ import annotations

import re
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.labels import BACKGROUND, IDS_BY_NAME, IGNORE, STRUCTURES

AIR = 0
OTHERS = MappingProxyType(
    {
        "body": 32,
        "muscle": 33,
        "vein": 34,
        "artery": 35,
        "urine": 36,
        "bile duct": 37,
        "airway": 38,
        "disc": 39,
        "cartilage": 40,
        "spinal cord": 41,
        "soft organ": 42,
        "bowel": 43,
        "hepatic vein": 44,
        "heart cavity": 45,
        "mesentery": 46,
        "arm": 47,
        "stomach or duodenum": 48,
        "artery of unknown name": 49,
    }
)
"""Tissues beside the label table, and their codes: "body" is whatever a map does not tell apart, completed later."""

SUBCUTANEOUS, VISCERAL, SKIN, ISLAND, FLESH, PORTAL_BRANCH, TWIG, EFFUSION, COLLAPSED, ASCITES = range(64, 74)
"""Tissues that are drawn anew for each subject: fat of two kinds, skin, loops and flesh in an empty abdomen, branches
of the portal vein inside the liver, small vessels, fluid in the chest, lung without air, fluid in the belly."""

CODES = MappingProxyType({**IDS_BY_NAME, **OTHERS})
"""Every name that a map may use, and its code."""
BODY = OTHERS["body"]
GUT = tuple(IDS_BY_NAME[name] for name in ("stomach", "duodenum", "small bowel", "colon"))

_IDS = {
    "bowel": IGNORE,
    "artery of unknown name": IGNORE,
    "stomach or duodenum": IGNORE,
    "hepatic vein": IDS_BY_NAME["liver"],
    "heart cavity": IDS_BY_NAME["heart"],
}

RULES: tuple[tuple[str, str], ...] = (
    (r"liver (tumou?r|lesion)", "liver tumour"),
    (r"pancrea\w* (tumou?r|lesion|mass)", "pancreatic mass"),
    (r"pancrea\w* duct", "pancreatic duct"),
    (r"hepatic (vein|vessel)", "hepatic vein"),
    (r"gall ?bladder", "gallbladder"),
    (r"bile|choledoch", "bile duct"),
    (r"renal pelvi|ureter|bladder", "urine"),
    (r"portal|splenic vein|superior mesenteric vein", "portal and splenic vein"),
    (r"sma\b.*(celiac|coeliac|ima)|(celiac|coeliac|ima)\b.*\bsma\b", "artery of unknown name"),
    (r"superior mesenteric artery|^sma$", "superior mesenteric artery"),
    (r"inferior vena cava|^ivc$|postcava", "inferior vena cava"),
    (r"aorta", "aorta"),
    (r"other arter|arter(y|ies) other", "artery of unknown name"),
    (r"arter(y|ies)|arterial|co?eliac", "artery"),
    (r"\bvein|vena\b|venous", "vein"),
    (r"colon and|and colon|bowel and|^bowel$|intestines?$(?<!small intestine)(?<!large intestine)", "bowel"),
    (r"stomach and duoden", "stomach or duodenum"),
    (r"stomach", "stomach"),
    (r"duoden", "duodenum"),
    (r"small (bowel|intestine)|jejun|ileum", "small bowel"),
    (r"colon|rectum|ca?ecum|large intestine", "colon"),
    (r"o?esophag", "oesophagus"),
    (r"right.*(adrenal|suprarenal)|(adrenal|suprarenal).*right", "right adrenal"),
    (r"left.*(adrenal|suprarenal)|(adrenal|suprarenal).*left", "left adrenal"),
    (r"(right.*kidney|kidney.*right)", "right kidney"),
    (r"(left.*kidney|kidney.*left)", "left kidney"),
    (r"lung", "lungs"),
    (r"airway|trachea|bronch", "airway"),
    (r"(heart|atri|ventric).*cavit|atrium|ventricle", "heart cavity"),
    (r"heart|myocard", "heart"),
    (r"muscle|glute|psoas|autochthon|erector|diaphragm|oblique|quadratus|rectus", "muscle"),
    (r"liver", "liver"),
    (r"spleen", "spleen"),
    (r"pancreas", "pancreas"),
    (r"dis[ck]\b", "disc"),
    (r"cartilage", "cartilage"),
    (r"spinal (cord|canal)", "spinal cord"),
    (
        r"vertebra|thoracic ?\d|lumbar ?\d|sacrum|\brib|sternum|\bhip\b|femur|pelvis|scapula|clavic|humer|bone|spine"
        r"|skull",
        "spine and bones",
    ),
    (r"mesenter|omentum", "mesentery"),
    (r"thymus|thyroid|prostate|uter(us|o)|ovar|testis|seminal|\bsoft", "soft organ"),
    (r"\bfat\b|body|skin|torso|trunk|\bother\b|unknown", "body"),
)
"""How names are understood: the first pattern found in a name's words decides."""


def code_of(name: str) -> int | None:
    """The code that a map's name stands for: ``code_of("kidney_right") == 3``; None where it is not understood."""
    words = " ".join(re.sub(r"[^a-z0-9]+", " ", name.lower()).split())
    for known, code in CODES.items():
        if words == " ".join(re.sub(r"[^a-z0-9]+", " ", known.lower()).split()):
            return code
    return next((CODES[meant] for pattern, meant in RULES if re.search(pattern, words)), None)


def label_table() -> NDArray[np.uint8]:
    """(256,) uint8: code -> id of the label table; 0 background, 255 where the id cannot be known."""
    table = np.full(256, BACKGROUND, np.uint8)
    for name, code in CODES.items():
        table[code] = code if code in STRUCTURES else _IDS.get(name, BACKGROUND)
    table[PORTAL_BRANCH] = IDS_BY_NAME["liver"]
    table[COLLAPSED] = IDS_BY_NAME["lungs"]
    return table
