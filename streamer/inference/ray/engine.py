"""The driver: sends batches of windows to the replicas of a Ray cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from streamer import __version__
from streamer.config.schema import FleetSettings, ModelSettings
from streamer.errors import FleetError, InferenceError, ModelError
from streamer.inference.engines.speed import fastest_hop
from streamer.inference.heads import Head
from streamer.inference.ray import cluster
from streamer.inference.ray.applications import application, deploy, require_start, states
from streamer.inference.ray.cluster import first_line, machines
from streamer.inference.ray.replica import AboutReplica, Answer, Sent, as_sent
from streamer.types import Scores, Window

START_S = 240.0
"""for the first replica to load the model"""
ABOUT_S = 3.0
"""after which the state of the replicas is looked at while they start"""
AGAIN_S = 0.2
"""until a batch is given again: Ray needs a moment to see that a replica is gone"""
LOST = 2
"""calls in a row of which no window was answered in time, after which Ray counts as gone"""
REFUSALS = 2
"""by replicas that are alive, of one batch; then it is at fault"""


class _LateError(InferenceError):
    """No replica has answered in time."""


class RayEngine:
    """An engine whose model is loaded by the replicas of a cluster. Its process ends when Ray does."""

    def __init__(
        self,
        fleet: FleetSettings,
        settings: ModelSettings,
        engine: str | None = None,
        *,
        heads: Sequence[Head] = (),
        labels: Sequence[str] | None = None,
    ) -> None:
        """Connect, and start the replicas where they do not run yet. Of `labels` scores come back, or of all.

        Raises ConfigError, FleetError, ModelError.
        """
        self._fleet = fleet
        cluster.connect(fleet)
        self._application = application(fleet, settings, engine, heads)
        self._handle = deploy(self._application, fleet, settings, engine, heads)
        self._about = self._ask_about()
        if self._about.version != __version__:
            raise ModelError(
                f"fleet: streamer is {self._about.version} in the cluster and {__version__} here:"
                " install the same on all machines, then: streamer fleet drain --all"
            )
        own = self._about.labels
        self._columns = [i for i, label in enumerate(own) if labels is None or label in labels]
        self.labels: Sequence[str] = tuple(own[i] for i in self._columns)
        self.name, self.chosen = "fleet", ""
        self.device: object = f"ray {fleet.address}"
        self.sample_rate, self.window_s = self._about.sample_rate, self._about.window_s
        self.max_batch = fleet.batch * fleet.flights
        self._n_lost = 0
        self._flights = ThreadPoolExecutor(fleet.flights, thread_name_prefix="flight")

    @property
    def kind(self) -> str:
        return self._about.engine

    def describe(self) -> str:
        """One line for people: where, and which model."""
        return f"Ray at {self._fleet.address}, {self._application}: {self._about.describe}"

    def fastest_hop(self, n_sources: int) -> float:
        """As of any engine: by measurement."""
        return fastest_hop(self.score, n_sources, self.window_s, self.sample_rate)

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        """Raises InferenceError where one of them has no scores."""
        scores = []
        for outcome in self.outcomes(windows):
            if isinstance(outcome, InferenceError):
                raise outcome
            scores.append(outcome)
        return scores

    def outcomes(self, windows: Sequence[Window]) -> list[Scores | InferenceError]:
        """Scores or an error for each, within `deadline_s`. Raises FleetError where Ray is gone."""
        deadline = time.monotonic() + self._fleet.deadline_s
        size = self._fleet.batch
        batches = [windows[i : i + size] for i in range(0, len(windows), size)]
        answered = self._flights.map(lambda batch: self._batch(batch, deadline), batches)
        outcomes = [outcome for batch in answered for outcome in batch]
        self._n_lost = self._n_lost + 1 if all(isinstance(one, _LateError) for one in outcomes) else 0
        if (
            self._n_lost == LOST
        ):  # a driver of a cluster that was started anew does not see that; the next one does
            raise FleetError(f"fleet: {outcomes[0]}")
        return outcomes

    def _batch(self, windows: Sequence[Window], deadline: float) -> list[Scores | InferenceError]:
        outcomes: list[Scores | InferenceError | None] = []
        sent: list[Sent] = []
        for window in windows:
            try:
                sent.append(as_sent(window, self._fleet.payload))
                outcomes.append(None)
            except InferenceError as error:
                outcomes.append(error)
        try:
            answers = iter(self._answers(sent, deadline) if sent else ())
        except InferenceError as error:
            return [outcome or error for outcome in outcomes]
        return [
            outcome or _outcome(window, next(answers))
            for window, outcome in zip(windows, outcomes, strict=True)
        ]

    def _answers(self, sent: list[Sent], deadline: float) -> list[Answer | str]:
        """What a replica answers; while replicas die the batch is given to others. Raises InferenceError."""
        from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415  # slow to load
        from ray.serve.exceptions import RayServeException  # noqa: PLC0415

        refusals, cause = 0, "no replica has answered"
        while (left_s := deadline - time.monotonic()) > 0:
            response = self._handle.many.remote(sent, self._columns)
            try:
                answers: list[Answer | str] = response.result(timeout_s=left_s)
            except TimeoutError:
                response.cancel()
                break
            except RayTaskError as error:
                refusals, cause = refusals + 1, first_line(error.cause)
                if refusals == REFUSALS:
                    raise InferenceError(f"the replicas cannot score it: {cause}") from None
            except (RayError, RayServeException) as error:
                cause = first_line(error)
            else:
                return answers
            time.sleep(AGAIN_S)
        raise _LateError(f"the fleet gave no scores within {self._fleet.deadline_s:g} s: {cause}")

    def _ask_about(self) -> AboutReplica:
        from ray.exceptions import RayError  # noqa: PLC0415
        from ray.serve.exceptions import RayServeException  # noqa: PLC0415

        until, state = time.monotonic() + START_S, ""
        response = self._handle.about.remote()
        while time.monotonic() < until:
            try:
                about: AboutReplica = response.result(timeout_s=ABOUT_S)
            except TimeoutError:
                require_start(self._application)
                if (now := states().get(self._application, "gone")) != state:
                    state = now
                    print(f"fleet: {self._application}: {state}; {machines()}", file=sys.stderr)
            except (RayError, RayServeException) as error:
                raise FleetError(f"fleet: {self._application}: {first_line(error)}") from None
            else:
                return about
        raise FleetError(f"fleet: no replica runs after {START_S:g} s: {self._application} is {state}")


def _outcome(window: Window, answer: Answer | str) -> Scores | InferenceError:
    if isinstance(answer, str):
        return InferenceError(answer)
    return Scores(
        source_id=window.source_id,
        index=window.index,
        start=window.start,
        end=window.end,
        clip=answer.clip.astype(np.float32),
        frames=None if answer.frames is None else answer.frames.astype(np.float32),
        frame_s=answer.frame_s,
    )
