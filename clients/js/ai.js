/**
 * A transport for AI SDK's `useChat`: the application's own route starts a run and answers its id; the answer is
 * streamed from a stream-proxy stream with `format: ai-sdk`. The transport reconnects with its cursor until the
 * verified end, and resumes after a reload.
 *
 *     import { useChat } from "@ai-sdk/react";
 *     import { HatchetChatTransport } from "hatchet-stream-proxy/ai";
 *
 *     const transport = new HatchetChatTransport({ api: "/api/chat", stream: (runId) => `/streams/chat/${runId}` });
 *     const { messages, sendMessage } = useChat({ transport, resume: true });
 */

const PAUSE = 3000; // milliseconds before a reconnect, until the stream's own `retry:` is known
const LONGEST_PAUSE = 30_000;
const MOST_FAILURES = 10; // connections in a row that brought nothing: some three minutes
const FINAL = [400, 401, 403, 404, 405, 410];
const FROM_THE_START = "start"; // no cursor of the proxy: "whatever there is, from its beginning"

/** An answer of the application's route or of the proxy that ends the chat's request. */
class Refused extends Error {}

export class HatchetChatTransport {
  /** For `useChat`: after a reload the message comes again from its beginning. */
  resumeStreamIsReplay = true;
  #options;

  /** @param {import("./ai.js").TransportOptions} options */
  constructor(options) {
    this.#options = options;
  }

  /** Start a run for the newest message and stream its answer. */
  sendMessages = async (request) => {
    const runId = await (this.#options.start ?? this.#post)(request);
    if (typeof runId !== "string" || runId === "") throw new Refused("the route that starts a run gave no run id");
    this.#remember(request.chatId, runId);
    const answer = this.#follow(request.chatId, runId, request.abortSignal);
    return (await answer.connect()) ? answer.stream() : NOTHING();
  };

  /** Stream the answer that was under way before the page was loaded again; null if there is none. */
  reconnectToStream = async ({ chatId, abortSignal }) => {
    const runId = await (this.#options.resume ?? this.#recall)(chatId);
    if (!runId) return null;
    const answer = this.#follow(chatId, runId, abortSignal);
    if (await answer.connect({ resumes: true })) return answer.stream();
    this.#forget(chatId);
    return null;
  };

  #follow(chatId, runId, signal) {
    const { stream, credentials, fetch = globalThis.fetch } = this.#options;
    return new Answer({ url: () => stream(runId), credentials, fetch, signal, onend: () => this.#forget(chatId) });
  }

  /** The default way to start a run: POST to `api`, which answers `{"runId": …}`. */
  #post = async ({ chatId, messages, trigger, messageId, body, headers, abortSignal }) => {
    const { api = "/api/chat", credentials, fetch = globalThis.fetch } = this.#options;
    const response = await fetch(api, {
      method: "POST",
      headers: { "content-type": "application/json", ...plain(await called(this.#options.headers)), ...plain(headers) },
      body: JSON.stringify({ id: chatId, messages, trigger, messageId, ...(await called(this.#options.body)), ...body }),
      credentials,
      signal: abortSignal,
    });
    if (!response.ok) throw new Refused(`the run was not started: ${await reason(response)}`);
    const answer = await response.json();
    return answer.runId ?? answer.run_id;
  };

  // -- the run of a chat, for a reload; a storage that the browser refuses is no error

  #storage() {
    try {
      return this.#options.storage === undefined ? globalThis.sessionStorage : this.#options.storage;
    } catch {
      return null;
    }
  }

  #remember(chatId, runId) {
    try {
      this.#storage()?.setItem(`hatchet-run:${chatId}`, runId);
    } catch {}
  }

  #recall = (chatId) => this.#storage()?.getItem(`hatchet-run:${chatId}`) ?? null;

  #forget(chatId) {
    try {
      this.#storage()?.removeItem(`hatchet-run:${chatId}`);
    } catch {}
  }
}

/** One answer: connections one after the other, until the verified end. */
class Answer {
  #options;
  #abort = new AbortController();
  #story = new Story();
  #cursor = "";
  #pause = PAUSE;
  #failures = 0;
  #expired = false; // whether the last connection was refused for its ticket
  #response = null;
  #ended = false;

  constructor(options) {
    this.#options = options;
    const { signal } = options;
    if (signal?.aborted) this.#abort.abort(signal.reason);
    signal?.addEventListener("abort", () => this.#abort.abort(signal.reason), { once: true });
  }

  /** Wait for a stream; false: there is nothing to come. Throws what is final. */
  async connect({ resumes = false } = {}) {
    for (;;) {
      try {
        const response = await this.#request();
        if (response.status === 204) {
          if (resumes || this.#cursor) return this.#end();
          this.#cursor = FROM_THE_START; // the run is over already, or is not there yet
        } else if (response.ok) {
          this.#response = response;
          this.#expired = false;
          return true;
        } else if (response.status === 401 && !this.#expired) {
          this.#expired = true; // the next URL may have a new ticket
        } else if (FINAL.includes(response.status) || this.#failures >= MOST_FAILURES) {
          throw new Refused(`the stream was refused: ${await reason(response)}`);
        } else {
          await this.#sleep(after(response));
        }
      } catch (error) {
        if (error instanceof Refused || this.#abort.signal.aborted || this.#failures >= MOST_FAILURES) throw error;
        await this.#sleep(); // no network
      }
    }
  }

  /** The answer's parts, without doubles however often it was connected. */
  stream() {
    return new ReadableStream({
      start: (controller) => {
        this.#run(controller)
          .then(() => controller.close())
          .catch((error) => controller.error(error)); // nothing happens where it was cancelled
      },
      cancel: () => this.#abort.abort(),
    });
  }

  async #run(controller) {
    do {
      try {
        for await (const { id, data, retry } of frames(this.#response.body)) {
          if (retry !== undefined) this.#pause = retry;
          if (data === "[DONE]") return this.#end();
          for (const part of data === undefined ? [] : this.#story.take(JSON.parse(data))) controller.enqueue(part);
          if (id) this.#cursor = id;
          this.#failures = 0;
        }
      } catch (error) {
        if (this.#abort.signal.aborted || error instanceof SyntaxError) throw error;
      }
      await this.#sleep();
    } while (await this.connect());
  }

  async #request() {
    const url = absolute(await this.#options.url());
    if (this.#cursor) url.searchParams.set("last_event_id", this.#cursor);
    const { fetch, credentials } = this.#options;
    return await fetch(url, { headers: { accept: "text/event-stream" }, credentials, signal: this.#abort.signal });
  }

  #end() {
    if (!this.#ended) this.#options.onend();
    this.#ended = true;
    return false;
  }

  async #sleep(least = 0) {
    const pause = Math.min(LONGEST_PAUSE, Math.max(least, this.#pause * 2 ** Math.max(0, this.#failures - 1)));
    this.#failures += 1;
    const { signal } = this.#abort;
    await new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const timer = setTimeout(resolve, pause);
      signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
    });
  }
}

/**
 * What was passed on of a message. A proxy that does not know the cursor (a restarted one) sends the message again from
 * its beginning: `start`, a gap, for clients that know it `reset-step`, and then all parts. What was passed on before,
 * and was not erased, is left out.
 */
class Story {
  #started = false;
  #steps = 0; // how many steps of the message were begun and finished
  #finished = 0;
  #texts = new Map(); // id -> {text, ended, step}
  #tools = new Map(); // id of the call, or "output" and the id -> step
  #again = anew(); // since the message began (anew)

  /** The parts to pass on for one part of the stream. */
  take(part) {
    switch (part.type) {
      case "start":
        this.#again = anew();
        return this.#first() ? [part] : [];
      case "data-gap":
        return this.#steps === 0 && part.data?.cause === "unknown_cursor" ? [] : [part]; // nothing was shown yet
      case "reset-step":
        if (this.#steps === 0) return [];
        this.#erase();
        return [part];
      case "start-step":
        this.#again.steps += 1;
        if (this.#again.steps <= this.#steps) return [];
        this.#steps += 1;
        return [part];
      case "finish-step":
        this.#again.finished += 1;
        if (this.#again.finished <= this.#finished) return [];
        this.#finished += 1;
        return [part];
      case "text-start":
      case "reasoning-start":
        return this.#begin(part);
      case "text-delta":
      case "reasoning-delta":
        return this.#more(part);
      case "text-end":
      case "reasoning-end":
        return this.#over(part);
      case "tool-input-available":
        return this.#once(part.toolCallId) ? [part] : [];
      case "tool-output-available":
        return this.#once(`output ${part.toolCallId}`) ? [part] : [];
      default:
        return [part];
    }
  }

  #first() {
    const first = !this.#started;
    this.#started = true;
    return first;
  }

  /** `reset-step` removes everything since the last `start-step`. */
  #erase() {
    for (const [id, { step }] of this.#texts) {
      if (step !== this.#steps) continue;
      this.#texts.delete(id);
      this.#again.texts.delete(id);
    }
    for (const [id, step] of this.#tools) if (step === this.#steps) this.#tools.delete(id);
  }

  #begin(part) {
    if (this.#texts.has(part.id)) {
      this.#again.texts.set(part.id, "");
      return [];
    }
    this.#texts.set(part.id, { text: "", ended: false, step: this.#steps });
    return [part];
  }

  #more(part) {
    const known = this.#texts.get(part.id);
    const before = this.#again.texts.get(part.id);
    let { delta } = part;
    if (before !== undefined) {
      const now = before + delta;
      this.#again.texts.set(part.id, now);
      if (known.text.startsWith(now)) return [];
      if (now.startsWith(known.text)) delta = now.slice(known.text.length);
      else this.#again.texts.delete(part.id); // the beginning is lost: this is how it goes on
    }
    if (known.ended) return [];
    known.text += delta;
    return [{ ...part, delta }];
  }

  #over(part) {
    const known = this.#texts.get(part.id);
    if (known.ended) return [];
    known.ended = true;
    return [part];
  }

  #once(id) {
    if (this.#tools.has(id)) return false;
    this.#tools.set(id, this.#steps);
    return true;
  }
}

const anew = () => ({ steps: 0, finished: 0, texts: new Map() });

/** The frames of an event stream: {id, data, retry}, without those that have a name (the proxy's control frames). */
export async function* frames(body) {
  let rest = "";
  let frame = {};
  for await (const text of texts(body)) {
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (frame.event === undefined) yield frame;
        frame = {};
        continue;
      }
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "data") frame.data = frame.data === undefined ? value : `${frame.data}\n${value}`;
      else if (name === "id" || name === "event") frame[name] = value;
      else if (name === "retry" && /^\d+$/.test(value)) frame.retry = Number(value);
    }
  }
}

/** The text of a body, piece by piece; not every browser can iterate over a stream. */
async function* texts(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** A relative URL is one of the page. */
function absolute(url) {
  try {
    return new URL(url, globalThis.location?.href);
  } catch {
    throw new Refused(`the stream has no URL: ${url}`);
  }
}

const NOTHING = () => new ReadableStream({ start: (controller) => controller.close() });
const called = async (value) => (typeof value === "function" ? await value() : value);
const plain = (headers) => (headers ? Object.fromEntries(new Headers(headers)) : {});

/** How long an answer asks to wait, in milliseconds. */
function after(response) {
  const seconds = Number(response.headers.get("retry-after"));
  return Number.isFinite(seconds) ? seconds * 1000 : 0;
}

async function reason(response) {
  const said = await response.json().catch(() => ({}));
  return said.detail ?? said.error ?? `status ${response.status}`;
}
