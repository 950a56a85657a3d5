"""The registry of properties, and what is done with each of them."""

from __future__ import annotations

from popsbounds.config import Config
from popsbounds.properties.base import Property, Value
from popsbounds.properties.elastic import ElasticProperty
from popsbounds.properties.formation import FormationProperty
from popsbounds.properties.surface import SurfaceProperty
from popsbounds.structures import material_volume

__all__ = ["REGISTRY", "Property", "Value", "make_property"]

REGISTRY: dict[str, type] = {
    "formation": FormationProperty,
    "elastic": ElasticProperty,
    "surface": SurfaceProperty,
}


def make_property(config: Config, name: str) -> Property:
    """The property `name` with the settings of a study."""
    material = config.material
    volume = material.volume_A3 or material_volume(material.element)
    return REGISTRY[name](getattr(config.properties, name), material.element, volume, config.propagate.relax)
