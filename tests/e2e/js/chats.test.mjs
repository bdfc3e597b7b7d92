// A chat that stays on one page while its stream breaks, with the `ai` majors that people have: `AbstractChat` is what
// `useChat` is made of. The proxy is played: it sends a message up to some part, and goes on when it is asked again.
import assert from "node:assert/strict";
import test from "node:test";
import { HatchetChatTransport } from "../../../clients/js/ai.js";
import { load } from "./majors.mjs";

const MAJORS = ["ai5", "ai6", "ai700", "ai7"];
const MESSAGE = [
  { type: "start", messageId: "run" },
  { type: "start-step" },
  { type: "reasoning-start", id: "think" },
  { type: "reasoning-delta", id: "think", delta: "thinking" },
  { type: "reasoning-end", id: "think" },
  { type: "text-start", id: "answer" },
  { type: "text-delta", id: "answer", delta: "Hello " },
  { type: "text-delta", id: "answer", delta: "wor" },
  { type: "text-delta", id: "answer", delta: "ld" },
  { type: "text-end", id: "answer" },
  { type: "finish-step" },
  { type: "finish", finishReason: "stop" },
];
const CUT = 8; // how many parts come before the break
const WHOLE = ["reasoning thinking", "text Hello world"];

/** A proxy: its first connection stays open after some parts, until `cut` is called; the others send all that is missing. */
function proxy() {
  const played = { connections: 0, cut: undefined };
  played.fetch = async (url, { signal } = {}) => {
    const first = ++played.connections === 1;
    const after = Number(new URL(url).searchParams.get("last_event_id") ?? 0);
    const parts = MESSAGE.map((part, number) => `id: ${number + 1}\ndata: ${JSON.stringify(part)}\n\n`);
    const texts = first ? parts.slice(0, CUT) : [...parts.slice(after), "data: [DONE]\n\n"];
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(`retry: 1\n\n${texts.join("")}`));
        if (!first) return controller.close();
        played.cut = () => controller.error(new TypeError("network error")); // as browsers name it
        signal?.addEventListener("abort", () => controller.error(signal.reason));
      },
    });
    return new Response(body, { headers: { "x-vercel-ai-ui-message-stream": "v1" } });
  };
  return played;
}

/** A chat without a page. */
async function chatOf(name, transport) {
  const { AbstractChat } = await load(name);
  const state = {
    messages: [],
    status: "ready",
    error: undefined,
    pushMessage: (message) => void (state.messages = [...state.messages, message]),
    popMessage: () => void (state.messages = state.messages.slice(0, -1)),
    replaceMessage: (at, message) => void (state.messages = state.messages.with(at, structuredClone(message))),
    snapshot: (value) => structuredClone(value),
  };
  return new (class extends AbstractChat {})({ id: "chat", transport, state, onError: () => {} });
}

class Shelf extends Map {
  getItem = (key) => this.get(key) ?? null;
  setItem = (key, value) => this.set(key, value);
  removeItem = (key) => this.delete(key);
}

const ours = ({ fetch }) =>
  new HatchetChatTransport({ start: () => "run", stream: () => "http://proxy/run", storage: new Shelf(), fetch });

async function theirs(name, { fetch }) {
  const { DefaultChatTransport } = await load(name);
  const request = { api: "http://proxy/run" };
  return new DefaultChatTransport({ ...request, fetch, prepareReconnectToStreamRequest: () => request });
}

const shown = (chat) =>
  chat.messages
    .filter(({ role }) => role === "assistant")
    .map(({ parts }) => parts.filter(({ text }) => text).map(({ type, text }) => `${type} ${text}`));

/** Ask; the answer begins. */
async function asked(chat) {
  const answered = chat.sendMessage({ text: "Hi" });
  while (!chat.messages.at(-1)?.parts.some(({ text }) => text === "Hello wor")) await new Promise(setImmediate);
  return { answered };
}

for (const name of MAJORS) {
  test(`${name}: with this transport a broken connection is nothing that the chat sees`, async () => {
    const played = proxy();
    const chat = await chatOf(name, ours(played));
    const { answered } = await asked(chat);
    played.cut();
    await answered;
    assert.deepEqual([chat.status, shown(chat), played.connections], ["ready", [WHOLE], 2]);
  });

  test(`${name}: an answer that was stopped is resumed in place of what was shown of it`, async () => {
    const chat = await chatOf(name, ours(proxy()));
    const { answered } = await asked(chat);
    await chat.stop();
    await answered;
    chat.messages = chat.messages.slice(0, -1); // `setMessages` in React: older versions add to the message
    await chat.resumeStream();
    assert.deepEqual([chat.status, shown(chat)], ["ready", [WHOLE]]);
  });
}

for (const name of ["ai6", "ai700", "ai7"]) {
  test(`${name}: with its own transport an answer whose connection broke is resumed in place of what was shown`, async () => {
    const played = proxy();
    const chat = await chatOf(name, await theirs(name, played));
    const { answered } = await asked(chat);
    played.cut();
    await answered;
    assert.deepEqual([chat.status, shown(chat)], ["error", [["reasoning thinking", "text Hello wor"]]]);
    if (name === "ai700") chat.messages = chat.messages.slice(0, -1);
    await chat.resumeStream();
    assert.deepEqual([chat.status, shown(chat)], ["ready", [WHOLE]]);
  });
}
