"""The old home of ``Sampling``: saved code imports it from here."""

from .settings.sampling import Sampling

__all__ = ["Sampling"]
