"""The order in which a subject's structures are painted: what is later lies over what is earlier."""

from __future__ import annotations

from napari_multiphase.phantom import gut, lesions, organs, torso, vessels
from napari_multiphase.phantom.render import Structure
from napari_multiphase.phantom.spec import Pathology
from napari_multiphase.phantom.subject import Subject


def structures(subject: Subject, pathology: Pathology) -> list[Structure]:
    """All structures of one subject in the reference frame."""
    liver = organs.liver_shape(subject)
    return [
        *torso.body(subject),
        *torso.muscles(subject),
        *gut.mesentery(subject),
        *torso.chest(subject),
        *gut.small_bowel(subject),
        *gut.colon(subject),
        *organs.liver(subject, liver),
        *(lesions.liver_lesions(subject, liver) if pathology == "liver" else []),
        *organs.spleen(subject),
        *organs.kidneys(subject),
        *gut.stomach(subject),
        *gut.duodenum(subject),
        *organs.gallbladder(subject),
        *organs.pancreas(subject),
        *(lesions.pancreatic_mass(subject) if pathology == "pancreas" else []),
        *organs.adrenals(subject),
        *torso.ribs(subject),
        *torso.spine(subject),
        *gut.oesophagus(subject),
        *vessels.veins(subject),
        *vessels.arteries(subject),
    ]
