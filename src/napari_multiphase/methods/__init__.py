"""The methods, one explicit table."""

from napari_multiphase.errors import UserError
from napari_multiphase.methods import csgan, hpn, pann, pcn, urim
from napari_multiphase.methods.base import Method

METHODS: dict[str, Method] = {
    "pcn": pcn.METHOD,
    "hpn": hpn.METHOD,
    "pann": pann.METHOD,
    "urim": urim.METHOD,
    "csgan": csgan.METHOD,
}


def method(name: str) -> Method:
    """The method of that name; a UserError names those there are."""
    if name not in METHODS:
        raise UserError(f"there is no method '{name}': choose one of {', '.join(METHODS)}")
    return METHODS[name]
