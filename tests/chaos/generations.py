"""The truth of a run: one generation, and another for each replay.

A client that connected before the replay may receive the old version to its end; one that connects after
the replay receives the new one. Each must be complete. A client that changes replicas while a replay begins
may receive from one replica that a step is tried again, and from the other how the step had ended: the
attempts of both are true.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from proxy.simulator import Engine
from tests.chaos.faults import Bad
from tests.chaos.world import truth
from tests.support.reference import RunPicture, Truth, judge


@dataclass(frozen=True)
class Generation:
    """A run from its beginning, or from a replay, to its end."""

    truth: Truth
    cancelled: bool  # by a user

    def wrong(self, picture: RunPicture) -> list[str]:
        """The differences of a picture that are neither announced nor excused."""
        found = judge(picture, self.truth)
        return [what for what in found if not excused(what, self)]


@dataclass
class Generations:
    """The generations of all runs; `before` has those that a replay replaced."""

    engine: Engine
    bad: Bad
    before: defaultdict[str, list[Generation]] = field(default_factory=lambda: defaultdict(list))

    def over(self, run_id: str) -> bool:
        """Whether the run is over for now, and every source shows it."""
        run = self.engine.run(run_id)
        return run.settled and run.done

    async def replay(self, run_id: str) -> None:
        """Note a user's replay; the version before it is kept."""
        self.before[run_id].append(self.now(run_id))
        await self.engine.replay(run_id)

    def now(self, run_id: str) -> Generation:
        """The last generation of a run that is settled."""
        return Generation(truth(self.engine, run_id, self.bad), self.engine.run(run_id).cancelled)

    def judged(self, run_id: str, picture: RunPicture) -> tuple[list[str], bool]:
        """What is wrong with a picture by the generation that fits best; whether a replay began that one."""
        run = self.engine.run(run_id)
        generations = list(self.before[run_id])
        replayed = bool(generations)
        if run.settled:
            generations.append(self.now(run_id))
        if not generations:
            return ["a false end: it goes on"], False
        attempts = {
            f"{name}: attempt {step.attempt}"
            for generation in generations
            for name, step in generation.truth.steps.items()
        }
        attempts |= {f"{step.name}: attempt {step.attempt}" for step in run.steps.values()}  # as far as it is
        verdicts = [
            [
                what
                for what in generation.wrong(picture)
                if not (replayed and what.partition(",")[0] in attempts)
            ]
            for generation in generations
        ]
        best = min(range(len(verdicts)), key=lambda n: (len(verdicts[n]), -n))
        return verdicts[best], best > 0


def excused(what: str, generation: Generation) -> bool:
    """Whether a difference is allowed, because both pictures are as right as the sources allow.

    After a user's cancellation the engine forgets which steps were finished. A client that saw them finish
    has the truth; one whose replica has only the core state, without the history, receives that all were
    cancelled. A client that comes from another replica while the history is unreachable receives a guess of
    the attempt, with a gap, and a reset once a retry shows: its chunks are then of a void attempt.
    """
    if what.endswith(" received with two texts"):
        name, _, rest = what.partition(": ")
        return int(rest.split()[4]) < generation.truth.steps[name].attempt
    forgotten = what.endswith(", in truth cancelled") or ": cancelled, in truth " in what
    return generation.cancelled and forgotten
