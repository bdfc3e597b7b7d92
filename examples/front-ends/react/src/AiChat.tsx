import { useChat } from "@ai-sdk/react";
import { HatchetChatTransport, type ChatMessage } from "hatchet-stream-proxy/ai";
import type { Streams } from "./streams";

type Message = ChatMessage<Streams["ai"]>;
const transport = new HatchetChatTransport<Message>({ stream: (runId) => `/streams/ai/${runId}` });

export function AiChat() {
  const { messages, sendMessage, status } = useChat<Message>({ id: "chat", transport, resume: true });
  return (
    <>
      <main>
        {messages.map(({ id, role, parts }) => (
          <article key={id} className={role}>
            <b>{role}</b>
            {parts.map((part, number) => {
              if (part.type === "text") return <p key={number}>{part.text}</p>;
              if (part.type === "data-found") return <i key={number}>{part.data.hits} pages found</i>;
              return null;
            })}
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
