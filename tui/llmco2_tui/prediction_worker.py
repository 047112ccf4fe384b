"""Predictions in threads, beside the application.

Invariant: a request is asked about once, and every question is answered: by a footprint, or by why there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from textual.app import App

from llmco2.errors import LLMCO2Error
from llmco2.records.request import InferenceRequest
from llmco2_tui.messages import Answered
from llmco2_tui.predicting import Predict


class PredictionWorker:
    """Predicts requests in threads; the application receives each answer as a message."""

    def __init__(self, app: App[Any], predict: Predict) -> None:
        self._app, self._predict = app, predict
        self._asked: set[InferenceRequest] = set()

    def ask(self, requests: Iterable[InferenceRequest]) -> None:
        """Have those of ``requests`` predicted that are not being predicted yet."""
        fresh = [request for request in dict.fromkeys(requests) if request not in self._asked]
        if fresh:
            self._asked.update(fresh)
            self._app.run_worker(lambda: self._predict_in_thread(fresh), thread=True, group="predict")

    def answered(self, request: InferenceRequest) -> None:
        """Take in that an answer has arrived."""
        self._asked.discard(request)

    def _predict_in_thread(self, requests: Iterable[InferenceRequest]) -> None:
        for request in requests:
            try:
                self._app.post_message(Answered(request=request, answer=self._predict(request)))
            except LLMCO2Error as error:
                self._app.post_message(Answered(request=request, answer=str(error)))
            except Exception as error:  # hours of watching must not end because of one odd request
                answer = f"unexpected {type(error).__name__}: {error}"
                self._app.post_message(Answered(request=request, answer=answer))
