"""Operations on images in memory: windows, resampling, components, body masks, fusing."""
