// Reads streams with the chat transport and `readUIMessageStream` of several majors of npm's `ai`:
// node transport_client.mjs '[{"ai": "ai6", "url": …, "after": milliseconds, "resumes": false}, …]'
// prints `ready` when the clients are loaded, then one JSON array with what each has in the end.
import { HatchetChatTransport } from "../../../clients/js/ai.js";
import { load } from "./majors.mjs";

async function read({ ai, url, after = 0, resumes = false }) {
  const { readUIMessageStream } = await load(ai);
  await new Promise((resolve) => setTimeout(resolve, after));
  const storage = new Map([["hatchet-run:chat", "run"]]);
  const transport = new HatchetChatTransport({
    start: () => "run",
    stream: () => url,
    storage: { getItem: (key) => storage.get(key) ?? null, setItem: () => {}, removeItem: (key) => storage.delete(key) },
  });
  const stream = await (resumes
    ? transport.reconnectToStream({ chatId: "chat" })
    : transport.sendMessages({ trigger: "submit-message", chatId: "chat", messages: [] }));
  if (stream === null) return { ai, nothing: true };
  const errors = [];
  let message;
  for await (const snapshot of readUIMessageStream({ stream, onError: (error) => errors.push(String(error)) })) {
    message = snapshot;
  }
  const texts = (message?.parts ?? []).filter(({ type }) => type === "text" || type === "reasoning");
  return { ai, after, errors, texts: texts.map(({ type, text, state }) => [type, text, state]) };
}

const clients = JSON.parse(process.argv[2]);
await Promise.all(clients.map(({ ai }) => load(ai)));
console.log("ready");
console.log(JSON.stringify(await Promise.all(clients.map(read))));
