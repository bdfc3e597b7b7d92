import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { AiChat } from "./AiChat";
import { Chat } from "./Chat";

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <h1>Ask the agent</h1>
    {location.hash === "#ai" ? <AiChat /> : <Chat />}
  </StrictMode>,
);
