// The chat transport, on a proxy and an application that a test plays: what useChat gets of a message.
import assert from "node:assert/strict";
import test from "node:test";
import { HatchetChatTransport, frames } from "../../../clients/js/ai.js";

const START = { type: "start", messageId: "r1" };
const STEP = { type: "start-step" };
const FINISH = [{ type: "finish-step" }, { type: "finish", finishReason: "stop" }, "[DONE]"];
const GAP = { type: "data-gap", data: { cause: "unknown_cursor", step: null }, transient: true };
const RESET = { type: "reset-step" };
const begin = (id) => ({ type: "text-start", id });
const text = (id, delta) => ({ type: "text-delta", id, delta });
const end = (id) => ({ type: "text-end", id });

const wire = (parts) =>
  ["retry: 1\n\n", ...parts.map((part, number) => `id: c${number}\ndata: ${part === "[DONE]" ? part : JSON.stringify(part)}\n\n`)].join("");
const stream = (...parts) => new Response(wire(parts), { status: 200 });
const nothing = () => new Response(null, { status: 204 });
const refused = (status, detail) => new Response(JSON.stringify({ detail }), { status });

class Shelf {
  kept = new Map();
  getItem = (key) => this.kept.get(key) ?? null;
  setItem = (key, value) => this.kept.set(key, value);
  removeItem = (key) => this.kept.delete(key);
}

/** A transport whose proxy gives `answers`, one for each connection. */
function play(answers, options = {}) {
  const asked = [];
  const storage = new Shelf();
  let tickets = 0;
  const transport = new HatchetChatTransport({
    stream: (runId) => `http://proxy/streams/chat/${runId}?ticket=${++tickets}`,
    storage,
    fetch: async (url, { method = "GET", body }) => {
      asked.push(`${method} ${String(url).replace("http://proxy/streams/chat/", "")}`);
      if (method === "POST") return new Response(JSON.stringify({ runId: "r1", got: body }));
      const answer = answers.shift();
      if (answer instanceof Error) throw answer;
      return answer;
    },
    ...options,
  });
  return { transport, asked, storage };
}

const SEND = { trigger: "submit-message", chatId: "chat1", messageId: undefined, messages: [], abortSignal: undefined };

async function read(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const sent = async (...answers) => {
  const { transport } = play(answers);
  return read(await transport.sendMessages(SEND));
};

/** What a client shows: the texts, as AI SDK puts them together; throws where AI SDK does. */
function shown(parts) {
  let list = [];
  const open = new Map();
  for (const part of parts) {
    if (part.type === "start-step") list.push("step");
    else if (part.type === "reset-step") list = list.slice(0, list.lastIndexOf("step") + 1);
    else if (part.type === "text-start") {
      const made = { text: "" };
      open.set(part.id, made);
      list.push(made);
    } else if (part.type === "text-delta") open.get(part.id).text += part.delta;
    else if (part.type === "text-end") assert.ok(open.delete(part.id), `${part.id} is not open`);
  }
  return list.filter((part) => part !== "step").map((part) => part.text);
}

test("the route starts a run, the proxy streams it, and nothing is remembered after the end", async () => {
  const { transport, asked, storage } = play([stream(START, STEP, begin("a"), text("a", "Hi"), end("a"), ...FINISH)]);
  const answer = await transport.sendMessages(SEND);
  assert.equal(storage.getItem("hatchet-run:chat1"), "r1");
  assert.deepEqual(await read(answer), [START, STEP, begin("a"), text("a", "Hi"), end("a"), FINISH[0], FINISH[1]]);
  assert.deepEqual(asked, ["POST /api/chat", "GET r1?ticket=1"]);
  assert.equal(storage.kept.size, 0);
});

test("a connection that is cut goes on from its cursor, with a new URL", async () => {
  const { transport, asked } = play([
    stream(START, STEP, begin("a"), text("a", "Hel")),
    new TypeError("network error"),
    refused(503, "come back later"),
    refused(401, "the ticket has expired"),
    stream(text("a", "lo"), end("a"), ...FINISH),
  ]);
  assert.deepEqual(shown(await read(await transport.sendMessages(SEND))), ["Hello"]);
  assert.equal(asked.at(-1), "GET r1?ticket=5&last_event_id=c3");
});

test("a proxy that begins the message anew: what was lost stays lost, nothing comes twice", async () => {
  const parts = await sent(
    stream(START, STEP, begin("a"), text("a", "one "), end("a"), begin("b"), text("b", "tw")),
    stream(START, GAP, RESET, STEP, begin("a"), text("a", "one "), end("a"), begin("b"), text("b", "two"), end("b"), ...FINISH),
  );
  assert.deepEqual(shown(parts), ["one ", "two"]);
  assert.equal(parts.filter(({ type }) => type === "start").length, 1);
});

test("a message of two steps that begins anew keeps its first step", async () => {
  const first = [STEP, begin("a"), text("a", "one "), end("a"), { type: "finish-step" }, STEP];
  const parts = await sent(
    stream(START, ...first, begin("b"), text("b", "tw")),
    stream(START, GAP, RESET, ...first, begin("b"), text("b", "two"), end("b"), ...FINISH),
  );
  assert.deepEqual(shown(parts), ["one ", "two"]);
  for (const type of ["start-step", "finish-step"]) assert.equal(parts.filter((part) => part.type === type).length, 2);
});

test("without reset-step, for older clients, a message that begins anew goes on where it was", async () => {
  const tool = { type: "tool-input-available", toolCallId: "t", toolName: "search", input: {} };
  const output = { type: "tool-output-available", toolCallId: "t", output: 3 };
  const parts = await sent(
    stream(START, STEP, tool, begin("a"), text("a", "Hel")),
    stream(START, GAP, STEP, tool, output, begin("a"), text("a", "H"), text("a", "ello"), end("a"), ...FINISH),
  );
  assert.deepEqual(shown(parts), ["Hello"]);
  assert.deepEqual(
    parts.filter(({ type }) => type.startsWith("tool")),
    [tool, output],
  );
});

test("a retry erases the attempt's text, also after the message began anew", async () => {
  const parts = await sent(
    stream(START, STEP, begin("a1"), text("a1", "wrong"), begin("b"), text("b", "other")),
    stream(START, GAP, RESET, STEP, begin("a1"), text("a1", "wrong again"), begin("b"), text("b", "other"),
      RESET, begin("b"), text("b", "other"), begin("a2"), text("a2", "right"), end("b"), end("a2"), ...FINISH),
  ); // prettier-ignore
  assert.deepEqual(shown(parts), ["other", "right"]);
});

test("a run that is over before the page connects is asked for from its beginning", async () => {
  const { transport, asked } = play([nothing(), stream(START, GAP, RESET, STEP, begin("a"), text("a", "Hi"), end("a"), ...FINISH)]);
  const parts = await read(await transport.sendMessages(SEND));
  assert.deepEqual(shown(parts), ["Hi"]);
  assert.deepEqual(
    parts.map(({ type }) => type).slice(0, 3),
    ["start", "start-step", "text-start"],
  );
  assert.equal(asked.at(-1), "GET r1?ticket=2&last_event_id=start");
});

test("after a reload the chat's run is streamed again; one that is over is nothing to resume", async () => {
  const { transport, storage } = play([stream(START, STEP, begin("a"), text("a", "Hi"), end("a"), ...FINISH), nothing()]);
  assert.equal(await transport.reconnectToStream({ chatId: "chat1" }), null);
  storage.setItem("hatchet-run:chat1", "r1");
  assert.deepEqual(shown(await read(await transport.reconnectToStream({ chatId: "chat1" }))), ["Hi"]);
  storage.setItem("hatchet-run:chat1", "r1");
  assert.equal(await transport.reconnectToStream({ chatId: "chat1" }), null);
  assert.equal(storage.kept.size, 0);
  const own = play([stream(START, ...FINISH)], { resume: async (chatId) => `run-of-${chatId}`, storage: null });
  assert.ok(await own.transport.reconnectToStream({ chatId: "7" }));
  assert.deepEqual(own.asked, ["GET run-of-7?ticket=1"]);
});

test("what is final is an error with the reason, and a second 401 is", async () => {
  const { transport } = play([refused(404, "there is no such run")]);
  await assert.rejects(transport.sendMessages(SEND), /the stream was refused: there is no such run/);
  const expired = play([refused(401, "expired"), refused(401, "expired")]);
  const answer = expired.transport.sendMessages(SEND);
  await assert.rejects(answer, /refused: expired/);
  const own = play([], { start: async () => { throw new Error("no credit left"); } }); // prettier-ignore
  await assert.rejects(own.transport.sendMessages(SEND), /no credit left/);
});

test("what is no URL is refused at once, and an option that is undefined is as one that is not there", async () => {
  const { transport } = play([], { stream: () => "/relative", start: undefined });
  await assert.rejects(transport.sendMessages(SEND), /the stream has no URL: .relative/);
  const { transport: usual, asked } = play([stream(START, ...FINISH)], { api: undefined });
  assert.deepEqual(await read(await usual.sendMessages(SEND)), [START, FINISH[0], FINISH[1]]);
  assert.equal(asked[0], "POST /api/chat");
});

test("stop ends the connection", async () => {
  const stop = new AbortController();
  const hangs = (signal) =>
    new ReadableStream({
      start: (body) => {
        body.enqueue(new TextEncoder().encode(wire([START])));
        signal.addEventListener("abort", () => body.error(signal.reason)); // as fetch does
      },
    });
  const { transport } = play([], { start: () => "r1", fetch: async (url, { signal }) => new Response(hangs(signal)) });
  const reader = (await transport.sendMessages({ ...SEND, abortSignal: stop.signal })).getReader();
  assert.deepEqual((await reader.read()).value, START);
  stop.abort();
  await assert.rejects(reader.read(), { name: "AbortError" });
});

test("bytes become frames however they are cut", async () => {
  const bytes = new TextEncoder().encode('\ufeff: hi\nretry: 250\nid: 1\ndata: {"é":\ndata:1}\r\n\r\nevent: stream.wait\ndata: {}\n\ndata: x\r\rdata: lost');
  for (const size of [1, 2, 3, 7, 1000]) {
    const body = new ReadableStream({
      start: (controller) => {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    assert.deepEqual(await read(frames(body)), [{ retry: 250, id: "1", data: '{"é":\n1}' }, { data: "x" }], `size ${size}`);
  }
});
