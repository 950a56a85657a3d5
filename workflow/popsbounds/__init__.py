"""Error bars for material properties from machine-learned interatomic potentials, by POPS."""

from importlib.metadata import version

__version__ = version("popsbounds")
