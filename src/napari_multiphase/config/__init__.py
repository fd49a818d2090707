"""Every setting of methods, training and segmenting: the only home of each default. No torch here.

A field's docstring gives its unit and origin: a section of the paper, or "ours" where the paper is silent. One file per
method holds its settings and its presets; ``methods.METHODS`` binds the same names to networks.
"""

from napari_multiphase.config.base import (
    AugmentConfig,
    Device,
    OptimiserConfig,
    Rounds,
    Settings,
    Traits,
    TranslatorTraits,
)
from napari_multiphase.config.csgan import CsganConfig
from napari_multiphase.config.data import AtlasConfig, DatasetConfig, PartlyLabelled, PhantomConfig
from napari_multiphase.config.hpn import HpnConfig
from napari_multiphase.config.nets import (
    DeepLabConfig,
    Fcn8sConfig,
    PatchGanConfig,
    ResidualUNet3DConfig,
    ResnetGeneratorConfig,
    UNet3DConfig,
    UNetGenerator3DConfig,
)
from napari_multiphase.config.options import RegisterOptions, Registration, SegmentOptions, TranslateOptions
from napari_multiphase.config.pann import PannConfig
from napari_multiphase.config.pcn import PcnConfig
from napari_multiphase.config.run import RunConfig
from napari_multiphase.config.table import (
    METHOD_CONFIGS,
    PRESETS,
    check_run,
    method_config,
    preset,
    traits_of,
    translator_traits_of,
)
from napari_multiphase.config.urim import UrimConfig

__all__ = [
    "METHOD_CONFIGS",
    "PRESETS",
    "AtlasConfig",
    "AugmentConfig",
    "CsganConfig",
    "DatasetConfig",
    "DeepLabConfig",
    "Device",
    "Fcn8sConfig",
    "HpnConfig",
    "OptimiserConfig",
    "PannConfig",
    "PartlyLabelled",
    "PatchGanConfig",
    "PcnConfig",
    "PhantomConfig",
    "RegisterOptions",
    "Registration",
    "ResidualUNet3DConfig",
    "ResnetGeneratorConfig",
    "Rounds",
    "RunConfig",
    "SegmentOptions",
    "Settings",
    "Traits",
    "TranslateOptions",
    "TranslatorTraits",
    "UNet3DConfig",
    "UNetGenerator3DConfig",
    "UrimConfig",
    "check_run",
    "method_config",
    "preset",
    "traits_of",
    "translator_traits_of",
]
