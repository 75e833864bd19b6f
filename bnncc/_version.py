"""The version of bnncc; pyproject.toml reads it from here."""

__version__ = "0.1.0"
