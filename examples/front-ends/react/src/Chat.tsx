import { useState } from "react";
import { useRun } from "hatchet-stream-proxy/react";
import type { Streams } from "./streams";

/** A question, and the agent's answer as it comes. */
function Answer({ question, runId }: { question: string; runId: string }) {
  const { state, status, steps } = useRun<Streams["chat"]>(`/streams/chat/${runId}`, { events: ["token", "step"] });
  return (
    <article>
      <b>{question}</b>
      <p>{steps.answer?.text}</p>
      <small>{state === "ended" ? status : (steps.answer?.status ?? state)}</small>
    </article>
  );
}

export function Chat() {
  const [asked, setAsked] = useState<{ question: string; runId: string }[]>([]);

  async function ask(form: FormData) {
    const question = String(form.get("question"));
    const response = await fetch("/api/chat", { method: "POST", body: JSON.stringify({ question }) });
    const { runId } = await response.json();
    setAsked((before) => [...before, { question, runId }]);
  }

  return (
    <>
      <main>
        {asked.map((one) => (
          <Answer key={one.runId} {...one} />
        ))}
      </main>
      <form action={ask}>
        <input name="question" aria-label="Question" required />
        <button>Send</button>
      </form>
    </>
  );
}
