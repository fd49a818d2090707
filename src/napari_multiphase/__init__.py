"""Two-phase abdominal CT: open the pair, segment, fuse, correct."""
