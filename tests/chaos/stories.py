"""The truth of a run: one version, and another for each replay.

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
class Story:
    """A run from its beginning, or from a replay, to its end."""

    truth: Truth
    cancelled: bool  # by a user

    def wrong(self, picture: RunPicture) -> list[str]:
        """The differences of a picture that are neither announced nor excused."""
        found = judge(picture, self.truth)
        return [what for what in found if not excused(what, self)]


@dataclass
class Stories:
    """The stories of all runs; `before` has those that a replay made old."""

    engine: Engine
    bad: Bad
    before: defaultdict[str, list[Story]] = field(default_factory=lambda: defaultdict(list))

    def over(self, run_id: str) -> bool:
        """Whether the run is over for now, and every source shows it."""
        run = self.engine.run(run_id)
        return run.settled and run.done

    async def replay(self, run_id: str) -> None:
        """Note a user's replay; the version before it is kept."""
        self.before[run_id].append(self.now(run_id))
        await self.engine.replay(run_id)

    def now(self, run_id: str) -> Story:
        """The last story of a run that is settled."""
        return Story(truth(self.engine, run_id, self.bad), self.engine.run(run_id).cancelled)

    def judged(self, run_id: str, picture: RunPicture) -> tuple[list[str], bool]:
        """What is wrong with a picture by the story that fits best; whether that is one of a replay."""
        run = self.engine.run(run_id)
        stories = list(self.before[run_id])
        replayed = bool(stories)
        if run.settled:
            stories.append(self.now(run_id))
        if not stories:
            return ["a false end: it goes on"], False
        attempts = {
            f"{name}: attempt {step.attempt}" for story in stories for name, step in story.truth.steps.items()
        }
        attempts |= {f"{step.name}: attempt {step.attempt}" for step in run.steps.values()}  # as far as it is
        verdicts = [
            [what for what in story.wrong(picture) if not (replayed and what.partition(",")[0] in attempts)]
            for story in stories
        ]
        best = min(range(len(verdicts)), key=lambda n: (len(verdicts[n]), -n))
        return verdicts[best], best > 0


def excused(what: str, story: Story) -> bool:
    """Whether a difference is allowed, because both pictures are as right as the sources allow.

    After a user's cancellation the engine forgets which steps were finished. A client that saw them finish
    has the truth; one whose replica has only the core state, without the history, receives that all were
    cancelled. A client that comes from another replica while the history is unreachable receives a guess of
    the attempt, with a gap, and a reset once a retry shows: its chunks are then of a void attempt.
    """
    if what.endswith(" told in two ways"):
        name, _, rest = what.partition(": ")
        return int(rest.split()[4]) < story.truth.steps[name].attempt
    forgotten = what.endswith(", in truth cancelled") or ": cancelled, in truth " in what
    return story.cancelled and forgotten
