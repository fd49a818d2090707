"""Training: cases, sampling, augmentation and the loop. ``train.train`` is the entry."""
