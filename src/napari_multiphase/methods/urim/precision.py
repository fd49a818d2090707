"""float16 has no number above 65504 and no digits below 6e-5; what would leave that range is computed in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def no_float16(x: Tensor) -> AbstractContextManager[object]:
    """Turns autocast off where it would compute with `x` in float16; elsewhere nothing changes."""
    device = x.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if on and torch.get_autocast_dtype(device) == torch.float16:
        return torch.autocast(device, enabled=False)
    return nullcontext()
