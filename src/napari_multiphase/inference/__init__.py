"""From a study and a model to a prediction: plan, tiles, rolling slab, fusing, files.

Nothing is re-exported, so that reading this package's name imports no torch.
"""
