"""pillion on Ray: `Predictor` answers the rows of a Ray dataset, `deployment` serves a model on Ray
Serve (extra `ray`)."""

from __future__ import annotations

from .deploying import deployment
from .predictor import Predictor

__all__ = ["Predictor", "deployment"]
