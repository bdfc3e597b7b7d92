"use client";

import { useChat } from "@ai-sdk/react";
import { HatchetChatTransport } from "hatchet-stream-proxy/ai";

const transport = new HatchetChatTransport({ stream: (runId) => `/streams/ai/${runId}` });

export default function Chat() {
  const { messages, sendMessage, status } = useChat({ id: "chat", transport, resume: true });
  return (
    <>
      <h1>Ask the agent</h1>
      <main>
        {messages.map(({ id, role, parts }) => (
          <article key={id} className={role}>
            <b>{role}</b>
            {parts.map((part, number) => (part.type === "text" ? <p key={number}>{part.text}</p> : null))}
          </article>
        ))}
        <small>{status}</small>
      </main>
      <form action={(form) => void sendMessage({ text: String(form.get("question")) })}>
        <input name="question" aria-label="Question" required />
        <button>Send</button>
      </form>
    </>
  );
}
