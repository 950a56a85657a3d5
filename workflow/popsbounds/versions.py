"""Versions of what numbers may depend on."""

from __future__ import annotations

import importlib.metadata

__all__ = ["versions"]


def versions(*packages: str) -> dict[str, str]:
    """Versions of those packages that are installed, by name."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
