"""How much a synthetic image counts beside the scan it is made from (PCN's two branches, PAPER 000, Fig. 3)."""

from __future__ import annotations

from dataclasses import replace

from napari_multiphase.config import PcnConfig, SegmentOptions, method_config
from napari_multiphase.errors import UserError
from napari_multiphase.model import Model


def with_branches(model: Model, options: SegmentOptions) -> Model:
    """`model` with the user's `branch_weight` in place of its own; itself where none is asked for.

    Raises
    ------
    UserError : the model has no synthetic branch.
    """
    if options.branch_weight is None:
        return model
    config = method_config(model.card.method, model.card.config)
    if not isinstance(config, PcnConfig) or config.translation is None:
        raise UserError(
            "a branch weight mixes results of a scan and of a synthetic image, and the model "
            f"'{model.card.name}' makes no synthetic images to segment: leave it out, or choose a model that translates"
        )
    changed = config.with_branch_weight(options.branch_weight).model_dump(mode="json")
    return replace(model, card=model.card.model_copy(update={"config": changed}))
