// A page with useChat({ resume: true }): it shows the parts of each message, and what went wrong.
// The address says which stream it resumes: ?stream=/chat/RUN
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

const stream = new URLSearchParams(location.search).get("stream");
const transport = new DefaultChatTransport({ prepareReconnectToStreamRequest: () => ({ api: stream }) });
const asked = [{ id: "asked", role: "user", parts: [{ type: "text", text: "Go" }] }];
window.errors = [];

function Chat() {
  const onError = (error) => window.errors.push(String(error));
  const chat = useChat({ id: "chat", messages: asked, resume: true, transport, onError });
  window.chat = chat;
  return (
    <main data-status={chat.status}>
      {chat.messages.map((message) => (
        <article key={message.id} data-role={message.role}>
          {message.parts.map((part, index) =>
            "text" in part ? <p key={index} data-kind={part.type}>{part.text}</p> : null,
          )}
        </article>
      ))}
    </main>
  );
}

createRoot(document.getElementById("root")).render(<StrictMode><Chat /></StrictMode>);
