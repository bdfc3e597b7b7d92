// Reads streams with the real clients of the chat protocols. It prints `ready`, then answers each line of JSON on
// standard input, {id, client, url}, with a line {id, ...what the client has in the end}. With `posts`, `url` is a route
// that starts a run and answers 303 with its stream: the client sends it a question, in its own way.
import { createInterface } from "node:readline";

async function uiMessage(name, { url, posts }) {
  const { DefaultChatTransport, readUIMessageStream } = await import(name);
  const transport = new DefaultChatTransport({ api: url, prepareReconnectToStreamRequest: () => ({ api: url }) });
  const messages = [{ id: "1", role: "user", parts: [{ type: "text", text: "What?" }] }];
  const found = { nothing: false, errors: [], kinds: [], data: [], message: null };
  const stream = posts
    ? await transport.sendMessages({ trigger: "submit-message", chatId: "chat", messages })
    : await transport.reconnectToStream({ chatId: "chat" });
  if (stream === null) return { ...found, nothing: true };
  const watched = stream.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        found.kinds.push(chunk.type);
        if (chunk.transient) found.data.push(chunk);
        controller.enqueue(chunk);
      },
    }),
  );
  const onError = (error) => found.errors.push(String(error));
  for await (const snapshot of readUIMessageStream({ stream: watched, onError })) found.message = snapshot;
  return found;
}

async function agUi({ url, posts, messages = [] }) {
  const { HttpAgent } = await import("@ag-ui/client");
  class Reader extends HttpAgent {
    requestInit(input) {
      return { method: "GET", headers: { accept: "text/event-stream" }, signal: this.abortController.signal };
    }
  }
  const agent = new (posts ? HttpAgent : Reader)({ url, threadId: "thread", initialMessages: messages });
  const found = { events: [], custom: [], error: null };
  await agent.runAgent({}, {
    onEvent: ({ event }) => void found.events.push(event.type),
    onCustomEvent: ({ event }) => void found.custom.push([event.name, event.value]),
    onRunErrorEvent: ({ event }) => void (found.error = event.message),
  });
  return { ...found, messages: agent.messages };
}

async function completion({ url, posts }) {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({ apiKey: "none", baseURL: new URL(url).origin, maxRetries: 0 });
  const path = new URL(url).pathname;
  const asked = { model: "agent", messages: [{ role: "user", content: "What?" }], stream: true };
  const stream = await (posts ? client.post(path, { body: asked, stream: true }) : client.get(path, { stream: true }));
  const found = { content: "", roles: [], reasons: [] };
  for await (const chunk of stream) {
    const [choice] = chunk.choices;
    found.content += choice.delta.content ?? "";
    if (choice.delta.role) found.roles.push(choice.delta.role);
    if (choice.finish_reason) found.reasons.push(choice.finish_reason);
  }
  return found;
}

async function plain({ url }) {
  const response = await fetch(url);
  return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
}

// A connection that breaks also rejects promises that the clients keep to themselves.
process.on("unhandledRejection", (error) => console.error(String(error)));

const clients = { "ag-ui": agUi, openai: completion, text: plain };
for (const name of ["ai5", "ai6", "ai700", "ai7"]) {
  clients[name] = (asked) => uiMessage(name, asked);
  await import(name);
}
await import("@ag-ui/client");
await import("openai");
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  clients[asked.client](asked)
    .catch((error) => ({ thrown: String(error) }))
    .then((found) => console.log(JSON.stringify({ id: asked.id, ...found })));
}
