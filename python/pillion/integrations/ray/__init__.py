"""pillion on Ray: `Predictor` answers the rows of a Ray dataset, `deployment` serves a model on Ray
Serve, `app` does so from Ray's own files (extra `ray`)."""

from __future__ import annotations

from .deploying import app, deployment
from .predictor import Predictor

__all__ = ["Predictor", "app", "deployment"]
