"""The pure core of a followed run: observations in; ordered items, gaps, and what to read next, out.

Hatchet's chunks carry no attempt, its ends overtake chunks, and a subscription can lose events without a
sign. So two rules decide about every chunk, and nothing is assumed:

    1. A chunk belongs to the attempt that the evidence proves, or it waits.
    2. An attempt is whole when that is proven, or it has a gap.

Rule 1: `placement` groups the chunks of a step into executions of its code, which number their chunks from
0. `attempts` decides which attempt an execution is, by what subscriptions brought and what the states say
(`evidence`, `outcomes`). An execution that is not decided waits; if it never is, its chunks are a gap.

Rule 2: `sequencer` emits an attempt's chunks by index; a missing index is a gap. At the attempt's end
`completeness` asks whether one subscription brought the last chunk, the end, and all that came within the
settling time after it (`subscription_state`). If none did, the end comes with a gap.

A third rule is about the run: its end is emitted exactly when the core state says done (`run_end`).

Each exception to a rule is documented where it is decided, and each time constant in `timing`.
`reconciler` puts the parts together; begin reading there.
"""
