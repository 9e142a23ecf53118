"""What is known about a model: types and sizes, when values live, what nodes cost."""

from .dims import Dim
from .shapes import Shapes

__all__ = ["Dim", "Shapes"]
