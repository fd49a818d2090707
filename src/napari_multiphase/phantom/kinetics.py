"""HU of each tissue in each phase, and how they differ between subjects.

Model: HU(t) = native + dose * (enhancement at the nominal time + slope * (t - nominal time)), nominal times 33 s
(late arterial) and 65 s (portal venous) after the start of the injection; `dose` (iodine per body weight and cardiac
output, one number per subject) scales every enhancement together, as in Bae's pharmacokinetic model.

Published and followed here:

* Bae KT. Intravenous contrast medium administration and scan timing at CT: considerations and approaches. Radiology
  2010;256(1):32-61: arterial aorta about 250-400 HU, hepatic enhancement of 50-60 HU peaking at 60-70 s, late arterial
  30-35 s with little hepatic vein filling, portal inflow from about 35 s, renal cortex before medulla until 80-100 s,
  heterogeneous spleen in the arterial phase; enhancement falls with body weight.
* McNulty NJ et al. Multi-detector row helical CT of the pancreas. Radiology 2001;220:97-102, and Fletcher JG et al.
  Radiology 2003;229:81-90: pancreas about 100-115 HU at 35-45 s, 80-95 HU at 60-70 s; adenocarcinoma hypoattenuating by
  30-60 HU, about a tenth isoattenuating.
* Yuh BI, Cohan RH. Different phases of renal enhancement. AJR 1999;173:747-755: corticomedullary phase at 25-70 s with
  the cortex far above the medulla, both equal in the nephrographic phase (from 80-100 s).
* Native values: blood 40, liver 55, spleen 45, pancreas 40, kidney 30, muscle 50, fat -100, bile 5 HU (textbook).

Ours (chosen inside or beside those ranges, no source gives them): the slopes per second, all spreads between
subjects, bowel wall and content, bone, and the lesions' exact numbers (their patterns are the textbook ones: a
haemangioma fills from the rim, HCC washes out, FNH is bright only early, metastases stay below the liver).

Visible in one phase only, or nearly: portal and splenic vein against liver and pancreas (venous); superior mesenteric
artery against the veins beside it (arterial; in the venous phase both are equally bright); renal cortex against medulla
(arterial); hepatic veins (venous; dark or absent early); FNH (arterial); the pancreatic mass (arterial; within 8 HU of
the gland later); HCC capsule (venous); inferior vena cava below the kidneys (venous).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from napari_multiphase.volume import Phase

NOMINAL_S = MappingProxyType({Phase.ARTERIAL: 33.0, Phase.VENOUS: 65.0})


class Tissue(NamedTuple):
    """HU without contrast, enhancement at 33 s and 65 s, its slopes (HU/s) there, spread between subjects (HU)."""

    native: float
    arterial: float
    venous: float
    arterial_slope: float = 0.0
    venous_slope: float = 0.0
    spread: float = 3.0


TISSUES = MappingProxyType(
    {
        "aorta": Tissue(42, 258, 113, 4.0, -1.5, 12.0),
        "portal": Tissue(42, 60, 128, 5.0, -0.3, 7.0),
        "cava": Tissue(42, 45, 95, 1.5, 1.0, 7.0),
        "cava_infrarenal": Tissue(42, 8, 62, 0.3, 1.6, 6.0),
        "hepatic_vein": Tissue(42, 8, 112, 1.0, 1.0, 6.0),
        "liver": Tissue(56, 13, 54, 1.2, 0.1, 4.0),
        "spleen": Tissue(46, 78, 76, 1.5, -0.3, 5.0),
        "renal_cortex": Tissue(32, 150, 148, 3.0, 0.0, 8.0),
        "renal_medulla": Tissue(32, 42, 138, 2.0, 1.0, 8.0),
        "renal_pelvis": Tissue(8, 2, 4, 0.0, 0.1, 3.0),
        "pancreas": Tissue(40, 64, 48, 1.0, -0.4, 5.0),
        "adrenal": Tissue(25, 50, 42, 0.8, -0.2, 5.0),
        "gut_wall": Tissue(38, 48, 56, 0.8, 0.0, 6.0),
        "stomach_wall": Tissue(38, 44, 52, 0.8, 0.0, 6.0),
        "oesophagus": Tissue(38, 18, 28, 0.3, 0.1, 4.0),
        "myocardium": Tissue(42, 68, 66, 1.0, -0.3, 5.0),
        "left_heart": Tissue(42, 250, 112, 1.0, -1.4, 12.0),
        "right_heart": Tissue(42, 170, 108, -3.0, -1.2, 14.0),
        "muscle": Tissue(52, 6, 14, 0.1, 0.1, 3.0),
        "fat": Tissue(-104, 0, 0, 0, 0, 3.0),
        "skin": Tissue(15, 4, 8, 0, 0, 5.0),
        "gallbladder": Tissue(6, 0, 1, 0, 0, 4.0),
        "gallbladder_wall": Tissue(32, 20, 35, 0, 0, 4.0),
        "cortical_bone": Tissue(430, 4, 6, 0, 0, 40.0),
        "marrow": Tissue(150, 5, 10, 0, 0, 30.0),
        "disc": Tissue(85, 2, 4, 0, 0, 6.0),
        "cartilage": Tissue(105, 2, 4, 0, 0, 12.0),
        "csf": Tissue(8, 1, 2, 0, 0, 3.0),
        "cord": Tissue(36, 3, 5, 0, 0, 3.0),
        "lung": Tissue(-845, 6, 8, 0, 0, 18.0),
        "fluid": Tissue(14, 0, 0, 0, 0, 10.0),
        "chyme": Tissue(28, 0, 0, 0, 0, 10.0),
        "faeces": Tissue(22, 0, 0, 0, 0, 18.0),
        "cyst": Tissue(6, 0, 1, 0, 0, 4.0),
        "fnh": Tissue(50, 86, 64, 1.0, -0.2, 6.0),
        "fnh_scar": Tissue(38, 20, 40, 0, 0, 4.0),
        "haemangioma": Tissue(38, 12, 42, 0, 0.3, 5.0),
        "haemangioma_rim": Tissue(40, 150, 118, 2.0, 0.0, 12.0),
        "hcc": Tissue(48, 60, 36, 1.0, -0.3, 6.0),
        "hcc_capsule": Tissue(48, 20, 74, 0, 0, 6.0),
        "metastasis": Tissue(38, 10, 24, 0.2, 0.1, 5.0),
        "metastasis_rim": Tissue(42, 36, 46, 0.4, 0.0, 6.0),
        "pancreatic_mass": Tissue(38, 24, 46, 0.3, 0.2, 3.0),
        "duct": Tissue(10, 1, 2, 0, 0, 3.0),
    }
)
"""The table that `Kinetics` draws a subject's values from."""

AIR_HU = -1000.0
BOWEL_GAS_HU = -920.0


class Kinetics:
    """One subject's HU. Draws dose, both delays and every tissue's own deviation from `rng`."""

    def __init__(self, rng: np.random.Generator, weight: float = 0.0) -> None:
        """`weight`: build in standard deviations; heavier subjects get less enhancement."""
        self.dose = float(np.clip(np.exp(rng.normal(-0.04 * weight, 0.10)), 0.75, 1.30))
        self.delay_s = {
            Phase.ARTERIAL: float(np.clip(rng.normal(33.0, 1.5), 30.0, 36.0)),
            Phase.VENOUS: float(np.clip(rng.normal(65.0, 2.5), 60.0, 70.0)),
        }
        self._deviation = {name: float(np.clip(rng.normal(), -2.0, 2.0)) for name in TISSUES}

    def hu(self, tissue: str, phase: Phase) -> float:
        """This subject's mean HU of a tissue in a phase."""
        row = TISSUES[tissue]
        early = phase is Phase.ARTERIAL
        slope = row.arterial_slope if early else row.venous_slope
        enhancement = (row.arterial if early else row.venous) + slope * (self.delay_s[phase] - NOMINAL_S[phase])
        return row.native + self.dose * enhancement + row.spread * self._deviation[tissue]


class WideKinetics(Kinetics):
    """HU for domain randomisation: every tissue of each phase anywhere from unenhanced to well beyond both phases."""

    BELOW, ABOVE, EXCESS_HU = 1.5, 1.7, 12.0
    """Spreads below the native HU, the share of the largest enhancement, and HU beyond it, that are still drawn."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self._drawn = {(name, phase): float(rng.uniform()) for name in TISSUES for phase in Phase}

    def hu(self, tissue: str, phase: Phase) -> float:
        """This case's HU of a tissue in a phase."""
        row = TISSUES[tissue]
        low = row.native - self.BELOW * row.spread
        high = row.native + self.ABOVE * max(row.arterial, row.venous, 0.0) + 1.5 * row.spread + self.EXCESS_HU
        return low + (high - low) * self._drawn[tissue, phase]
