"""PCN: Phase Collaborative Network for two-phase segmentation (PAPER 000).

Implements:

* Sec. 3, per-phase segmentors f_A and f_V -> ``network.PcnSegmentors``
* Sec. 3, RSTN: coarse and fine network, modes S, I and J -> ``rstn.Rstn``, ``rstn.Mode``
* RSTN, saliency transformation g -> ``rstn.Saliency``
* Sec. 3, FCN-8s on VGG-16 -> ``nets.fcn8s.Fcn8s``
* Sec. 3, translators G_AV and G_VA -> ``network.PcnNets``, ``nets.translators.ResnetGenerator``
* Eq. 2, d, adversarial and cycle terms -> ``losses.adversarial.generator_loss``, ``losses.adversarial.cycle_loss``
* Eq. 3, what the translators minimise, Eq. 4, the collaborative objective -> ``objective.PcnObjective.terms``
* RSTN, 1/3 (1 - D_coarse) + 2/3 (1 - D_fine) -> ``segmentation.rstn_terms``, ``losses.segmentation.BinaryDiceLoss``
* Sec. 4.1, translators alone, section 1, section 2 -> ``objective.PcnObjective.stages``
* Sec. 3, Fig. 3, real and synthetic branch fused -> ``network.PcnSegmentor.combine``
* RSTN, coarse to fine in testing -> ``inference.rounds.refine``
* Tables 2 to 4, a row by form, translation, labelled phases and mixing -> ``config.pcn.PcnConfig``

Symbols: X_A, X_V images of the arterial and venous phase in [-1, 1]: (B, 1, D, H, W), of RSTN (B, 3, H, W) stacks; Y_A,
Y_V their labels; f segmentors, G_AV (``to_venous``) and G_VA (``to_arterial``) translators; lambda the weight of real
images; d the adversarial loss plus 10 times the cycle's.

Errata: the last segmentation term of Eq. 4 is printed with f_V and is f_A, by symmetry and Fig. 3. The "max" of Eq. 2
belongs to the discriminators inside d; ``gen_seg_sign`` -1 is the printed reading for the translators. Eq. 3's
generator has theta_V where its own parameters are meant; "lambda = 1 in Eqn (1)" means Eq. 4. Fig. 3's fusion and Eq. 4
agree at lambda = 0.5 alone: ``branch_weight`` is its own setting.
Range: translators read and write [-1, 1], RSTN reads [0, 1] (``network.unit``), on real and synthetic images alike.

Deviations: the form "unet3d" has one multi-class residual 3-D U-Net per phase, cross-entropy plus soft Dice and 3-D
translators, whose discriminators may see the labels too (``translation.judge.structures``); its segmentors start from
one that has seen both phases (the ``shared`` stage). RSTN's stacks are drawn by a voxel of the target, large slices
more often, instead of leaving the smallest 2 % out; only axial ones. Beyond its ends a scan repeats its last slice,
so that every slice lies in three stacks (RSTN divides by two there). Both segmentors train in the same steps, each on
its own phase: at lambda = 1 they have nothing in common.
The paper leaves open, and we took: lambda 0.5; fusion of probabilities in every round; every other choice is a field of
``config.PcnConfig`` with its origin.
"""

from napari_multiphase.methods.base import Method
from napari_multiphase.methods.pcn.network import PcnNets, PcnSegmentor, PcnSegmentors, PcnTranslator
from napari_multiphase.methods.pcn.objective import objective, summary

METHOD = Method(
    "pcn",
    nets=PcnNets,
    segmentor=PcnSegmentor,  # type: ignore[arg-type]
    objective=objective,
    summary=summary,
    translator=PcnTranslator,  # type: ignore[arg-type]
)

__all__ = ["METHOD", "PcnSegmentors"]
