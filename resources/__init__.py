"""Data shipped with the library: crystal prototypes, reference tables."""
