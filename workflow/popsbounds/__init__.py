"""Error bars for material properties from machine-learned interatomic potentials, by POPS."""

from importlib.metadata import version
from typing import Any

__all__ = ["Study", "__version__", "load_study"]

__version__ = version("popsbounds")


def __getattr__(name: str) -> Any:
    """`Study` and `load_study`, imported when asked for: what needs the version alone should not wait for pandas."""
    if name in ("Study", "load_study"):
        from popsbounds import study

        return getattr(study, name)
    raise AttributeError(f"module 'popsbounds' has no attribute {name!r}")
