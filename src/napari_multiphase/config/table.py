"""Settings and presets by method name: the torch-free half of ``methods.METHODS``."""

from __future__ import annotations

import math
from typing import Any

from napari_multiphase.bounds import LEAST_TILE_VOX, MOST_TILE_VOX
from napari_multiphase.config import csgan, hpn, pann, pcn, urim
from napari_multiphase.config.base import Settings, Traits, TranslatorTraits
from napari_multiphase.config.run import RunConfig
from napari_multiphase.errors import UserError

METHOD_CONFIGS: dict[str, type[Settings]] = {
    "pcn": pcn.PcnConfig,
    "hpn": hpn.HpnConfig,
    "pann": pann.PannConfig,
    "urim": urim.UrimConfig,
    "csgan": csgan.CsganConfig,
}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "pcn": pcn.PRESETS,
    "hpn": hpn.PRESETS,
    "pann": pann.PRESETS,
    "urim": urim.PRESETS,
    "csgan": csgan.PRESETS,
}


def method_config(method: str, values: dict[str, Any]) -> Any:
    """The validated settings of `method`; a UserError names the methods there are."""
    return _of(METHOD_CONFIGS, method).model_validate(values)


def traits_of(method: str, values: dict[str, Any]) -> Traits:
    """What running a model of `method` with these settings takes: known without torch and without weights."""
    traits: Traits = method_config(method, values).traits
    return traits


def translator_traits_of(method: str, values: dict[str, Any]) -> TranslatorTraits | None:
    """The same of translating, from the settings' `translator_traits`; None: such a model does not translate."""
    traits: TranslatorTraits | None = getattr(method_config(method, values), "translator_traits", None)
    return traits


def check_run(run: RunConfig) -> Any:
    """The validated settings of the run's method.

    Raises
    ------
    ValidationError : settings that are not valid.
    UserError : no such method, or a patch that its networks, and the tiles of the model to come, cannot take.
    """
    config = method_config(run.method, run.method_config)
    divisor: tuple[int, int, int] = config.traits.divisor
    nearest = [_nearest(*of_axis) for of_axis in zip(run.patch_vox, divisor, LEAST_TILE_VOX, strict=True)]
    if list(run.patch_vox) != nearest:
        raise UserError(
            f"patch_vox {list(run.patch_vox)} does not fit {run.method} with these settings: sides are multiples of "
            f"{list(divisor)}, from {list(LEAST_TILE_VOX)} up to {MOST_TILE_VOX}; the nearest is {nearest}"
        )
    if run.further_sizes and not config.traits.in_volumes:
        raise UserError(
            f"further_sizes is not for {run.method} with these settings, which work slice by slice: leave it out"
        )
    return config


def _nearest(side: int, divisor: int, least: int) -> int:
    """The multiple of `divisor` nearest to `side` that a tile may have."""
    low, high = math.ceil(least / divisor), MOST_TILE_VOX // divisor
    return divisor * min(max(round(side / divisor), low), high)


def preset(method: str, name: str, **changes: Any) -> RunConfig:
    """The run that a preset describes, `changes` applied on top; a UserError names the presets there are."""
    presets = _of(PRESETS, method)
    if name not in presets:
        raise UserError(f"{method} has no preset '{name}': choose one of {', '.join(presets)}")
    return RunConfig.model_validate({"method": method, "name": f"{method}-{name}", **presets[name], **changes})


def _of(table: dict[str, Any], method: str) -> Any:
    if method not in table:
        raise UserError(f"there is no method '{method}': choose one of {', '.join(table)}")
    return table[method]
