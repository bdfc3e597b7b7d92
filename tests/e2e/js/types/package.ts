// Compiled, not run: the package's types accept what the README shows, and refuse what they should.
import { followRun, readFrame, RunFollower, RunPicture, StepPicture, type RunSnapshot } from "hatchet-stream-proxy";
import * as core from "hatchet-stream-proxy";
import { useRun } from "hatchet-stream-proxy/react";
import * as react from "hatchet-stream-proxy/react";

type Chat =
  | { event: "token"; data: { step: "answer"; text: string } }
  | { event: "step"; data: { type: "step_completed"; step: "answer"; payload: { answer: string } } }
  | { event: "step"; data: { type: "step_completed"; step: "plan"; payload: number } }
  | { event: "step"; data: { type: "step_started"; step: "plan" | "answer"; payload: null } }
  | { event: "stream.end"; data: { status: "completed" | "failed" | "cancelled" } };

const run = followRun<Chat>("/streams/chat/1", { events: ["token", "step"], onchange: ({ state }) => state satisfies string });
const snapshot: RunSnapshot<Chat> = run.getSnapshot();
const text: string | undefined = snapshot.steps.answer?.text;
for (const message of snapshot.messages) {
  if (message.event === "token") message.data.text satisfies string;
  else if (message.data.type === "step_completed" && message.data.step === "answer") message.data.payload.answer satisfies string;
}
// @ts-expect-error: no such event
followRun<Chat>("/streams/chat/1", { events: ["tokens"] });
// @ts-expect-error: no such step
snapshot.steps.anwser;
// @ts-expect-error: immutable
snapshot.status = "completed";

const leave: () => void = run.subscribe(() => {});
followRun(async () => "/streams/chat/1?ticket=…", { picture: new RunPicture({ read: readFrame }), lastEventId: run.lastEventId });
followRun("/streams/any/1").getSnapshot().steps.whatever?.payload.anything;

export function Answer({ runId }: { runId?: string }): string {
  const { steps, state } = useRun<Chat>(runId && `/streams/chat/${runId}`, { events: ["token"], key: runId });
  return steps.answer?.text ?? (state satisfies string);
}

declare const unknown: undefined;
followRun("/streams/any/1", { events: unknown, onchange: unknown, onframe: unknown, picture: unknown, lastEventId: unknown, messages: unknown });
useRun(null, { key: unknown, withCredentials: unknown });

export const declared = {
  core: { followRun, readFrame, RunFollower, RunPicture, StepPicture, CONTROL_FRAMES: core.CONTROL_FRAMES } satisfies typeof core,
  react: { useRun } satisfies typeof react,
};
export { leave, text };
