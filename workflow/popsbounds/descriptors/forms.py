"""The functional form of a study's potentials: SNAP, or a universal potential under a linear corrector."""

from __future__ import annotations

from popsbounds.config import Config, Snap
from popsbounds.descriptors.snap import SnapCalculator, SnapModel, SnapRows
from popsbounds.descriptors.universal import UniversalCalculator, UniversalForm, UniversalRows

__all__ = ["Form", "FormCalculator", "FormRows", "make_form"]

Form = SnapModel | UniversalForm
FormRows = SnapRows | UniversalRows
FormCalculator = SnapCalculator | UniversalCalculator


def make_form(config: Config) -> Form:
    """Functional form of a study."""
    if isinstance(config.descriptors, Snap):
        return SnapModel(config.descriptors, config.elements)
    return UniversalForm(config.descriptors)
