"""Cycle- and shape-consistent GAN: translating and segmenting phases that need not be paired (PAPER 003).

Implements:

* the generators, 3-D U-Nets -> ``nets.translators.UNetGenerator3D``
* the discriminators, one judgement per patch -> ``nets.patchgan.PatchGan``
* the segmentors, without normalisation -> ``network.PlainUNet3D``
* L_GAN and L_cyc -> ``losses.adversarial.generator_loss``, ``losses.adversarial.cycle_loss``
* L_shape, S of the synthetic against the labels of its source -> ``objective.CsganObjective.shape_loss``
* Eq. 3 the generators' objective -> ``objective.CsganObjective.generator_terms``
* in words, the segmentors' objective, online on synthetic images too -> ``objective.CsganObjective.segmentor_terms``
* the three stages -> ``objective.CsganObjective.stages``
* Table 1 S-score -> ``score.s_score``
* Figure 8 gap analysis -> ``metrics.gap.gap_reduction``
* Tables 1, 2 and the sweeps, by regime, shape weight and shares -> ``config.csgan.CsganConfig``

Symbols: x_A, x_V (B, 1, D, H, W) arterial and venous crops, of cases of their own, the window mapped to [-1, 1]; y_A,
y_V (B, D, H, W) channels; G_V makes venous images of arterial ones, and G_A the reverse: generators, discriminators
and segmentors are all named by the phase of the image that they make or read. S_A, S_V give logits (B, K, D, H, W).

Deviations: arterial and venous CT instead of CT and MRI; no early stopping (held-out Dice is looked at instead);
crops lie where the draw puts them, not around the heart. ``dice_weight`` above 0 adds a soft Dice to the segmentors'
loss that the paper does not have; ``discriminator.structures`` shows the labels to the discriminators, and
``discriminator_moves`` lets them move more often than the rest: both for trainings of an hour. Of "ada", the frozen
generators translate every crop when it is needed, not once offline: the same images, unless crops change. Its halves
are weights of the two kinds of loss, not items of a batch.
What the paper leaves open and what we took: LSGAN, a mean L1, widths (see ``config.csgan``); real, synthetic and
reconstructed images weigh the same in the segmentors' loss, which the paper states in words alone; sides are padded to
multiples of 8 by their last voxels, at every network's entry, and cut again; discriminators and segmentors of a step
learn from what the generators made before they moved. The remark that any permutation or rotation T leaves the cycle
closed holds for the pair G_A T and T^-1 G_V (as printed, with T^-1 after G_V's input, only where T commutes with G).
"""

from napari_multiphase.methods.base import Method
from napari_multiphase.methods.csgan.network import CsganNets, CsganSegmentor, CsganTranslator, padded
from napari_multiphase.methods.csgan.objective import CsganObjective, objective, summary
from napari_multiphase.methods.csgan.score import s_score

METHOD = Method(
    "csgan",
    nets=CsganNets,
    segmentor=CsganSegmentor,
    objective=objective,
    summary=summary,
    translator=CsganTranslator,
)

__all__ = [
    "METHOD",
    "CsganNets",
    "CsganObjective",
    "CsganSegmentor",
    "CsganTranslator",
    "objective",
    "padded",
    "s_score",
]
