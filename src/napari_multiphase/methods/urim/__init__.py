"""SAM + URIM: liver tumours from two phases, with inpainting of the uncertain region (PAPER 002).

Implements:

* Sec. 3.1, two streams of five blocks, ResNeXt-50, ResNet-50 or U-Net -> ``encoders.stream``
* Sec. 3.1, selective aggregation (SAM) -> ``fusion.Sam``
* Sec. 3.1, feedback F^(m) = (F + F_aggr) / 2 -> ``network.feedback``
* Sec. 3.1, streams, decoder, classifier -> ``network.TumourNet``
* Table 1, Table 3, one phase alone (SP), stacks concatenated (ILF), decoders concatenated (DLF) -> ``network.Streams``
* Table 1, Table 3, phases added (MP) or weighted by scalars (MW) -> ``fusion.SumFusion``, ``fusion.ScalarFusion``
* Table 1, phase attention (PA) -> ``fusion.AttentionFusion``
* Eq. 3, confidence map M = 1 - exp(1 - Smax / Smin) -> ``inpainting.confidence_map``
* Eq. 4, LC-Conv x' = W^T (X * M) / sum(M) + b -> ``inpainting.LcConv``
* Sec. 3.2, URIM, four LC-Convs with M grown by a 3x3 max filter after each -> ``inpainting.Urim``, ``inpainting.grow``
* Sec. 3.2, CE_init + CE_final -> ``objective.UrimObjective``
* Sec. 3.3, the liver from a simple ResUNet -> ``region.LiverNet``
* Sec. 3.3, masked input -> ``region.masked``
* Sec. 3.3, alignment by tumour centres -> ``region.aligned``
* Tables 1 and 3, a row by fusion, inpainting and encoder -> ``config.urim.UrimConfig``

Symbols: F_PV, F_ART (B, C, h, w) features of a level; w_PV, w_ART (B, C, h, w) with sum 1 over the phases; F_aggr their
weighted sum; X (B, 64, H, W) decision features; S (B, 2, H, W) initial softmax; M (B, 1, H, W) confidence in [0, 1].
Slices are unfolded into the batch: a tile (B, C, d + 2, h, w) becomes (B d, 3, h, w) per phase.

Deviations: the pair is registered by the study's transform, not by tumour annotations, which nobody has when
segmenting; ``align`` comes near the paper's way in training, but moves per patch, in plane, by the labels that the
patch shows. Folds are contiguous, not stratified by tumour type. SP reads the pair and leaves the arterial scan unused,
so it learns from studies that have both phases. PA's gate sums the softmax of the affinity over the other axis than its
predecessor's public code, whose gate is the constant sigmoid(1).
What the paper leaves open and what we took: one joint 4-channel descriptor for both mappings of SAM; pooled and
convolved branches side by side (a 7x7 convolution after global pooling would see one voxel), no batch norm on the
pooled one (it has one voxel); batch norm and ReLU after every LC-Conv; every other choice is a field of
``config.UrimConfig`` with its origin.
"""

from napari_multiphase.methods.urim.objective import METHOD

__all__ = ["METHOD"]
