"""The registry of properties."""

from __future__ import annotations

from popsbounds.config import Config
from popsbounds.properties.base import Property, PropertyError, Settings, Value
from popsbounds.properties.elastic import ElasticProperty
from popsbounds.properties.formation import FormationProperty
from popsbounds.properties.neb import NebProperty
from popsbounds.properties.own import OwnProperty
from popsbounds.properties.path import PathProperty
from popsbounds.properties.phonon import PhononProperty
from popsbounds.properties.sia import InterstitialProperty
from popsbounds.properties.surface import SurfaceProperty

__all__ = ["REGISTRY", "Property", "PropertyError", "Settings", "Value", "make_property"]

REGISTRY: dict[str, type[Property]] = {
    "formation": FormationProperty,
    "elastic": ElasticProperty,
    "sia": InterstitialProperty,
    "surface": SurfaceProperty,
    "phonon": PhononProperty,
    "neb": NebProperty,
    "path": PathProperty,
}


def make_property(config: Config, name: str) -> Property:
    """The property `name` with the settings of a study."""
    material = config.material
    assert material is not None  # a study with properties has one
    settings = Settings(config.properties.settings(name), material.species, material.volume)
    return REGISTRY.get(name, OwnProperty)(settings)
