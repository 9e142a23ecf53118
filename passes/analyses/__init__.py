"""What is known about a model: types and sizes, when values live, what nodes cost."""

from .cost import Cost
from .dims import Dim
from .figures import Figures, figures
from .liveness import Liveness
from .shapes import Shapes

__all__ = ["Cost", "Dim", "Figures", "Liveness", "Shapes", "figures"]
