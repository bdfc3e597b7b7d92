/**
 * Builds a picture of a run from a stream-proxy stream: the state of each step, the text it has streamed, and
 * whether that text is complete. No dependencies; works in browsers and wherever there is an EventSource.
 *
 *     import { followRun } from "./stream-proxy.js";
 *
 *     const run = followRun(`/streams/live/${runId}`, {
 *       events: ["token", "step", "run"],          // the event names that the stream's rules use
 *       onchange: ({ picture, state }) => render(picture, state),
 *     });
 *     run.close();
 *
 * A picture is never wrong, only incomplete, and then it says so (`step.complete`). EventSource does the
 * reconnecting; frames that a stream sends again after a reconnect do not change a picture that was right.
 */

/** The names of the proxy's own frames; see docs/delivery.md. */
export const CONTROL_FRAMES = [
  "stream.gap",
  "stream.reset",
  "stream.end",
  "stream.wait",
  "stream.expired",
  "stream.drain",
];

const ENDS = { step_completed: "completed", step_skipped: "skipped", step_failed: "failed", step_cancelled: "cancelled" };

/**
 * Translates a frame of a team's rules into the picture's names. It reads the default data (`{type, step, payload}`)
 * and the fields that a rule may add: `attempt`, `index`, `recovered`, `text` for a chunk. Rules with other names need
 * their own `read` function; null means that the picture ignores the frame.
 *
 * @param {string} name the SSE event's name, "message" if the rule names none
 * @param {any} data the parsed data
 * @returns {{type: string, step?: string|null, attempt?: number|null, index?: number|null, payload?: any,
 *            recovered?: boolean} | null}
 */
export function readFrame(name, data) {
  if (data === null || typeof data !== "object") return null;
  const type = data.type ?? (data.text === undefined ? undefined : "step_stream");
  if (typeof type !== "string") return null;
  return { ...data, type, payload: data.text === undefined ? data.payload : data.text };
}

/** One step of the run, as far as the stream has reported it. */
export class StepPicture {
  /** @param {string} name @param {boolean} doubted whether chunks may have been missed before it was first seen */
  constructor(name, doubted) {
    this.name = name;
    /** @type {"started"|"streaming"|"retrying"|"completed"|"skipped"|"failed"|"cancelled"} */
    this.status = "started";
    this.attempt = 1;
    /** The payload of the step's last event: the output, or the reason of the failure. */
    this.payload = undefined;
    /** Whether a gap was announced since the last chunk. */
    this.doubted = doubted;
    this.stale = false;
    this.clear();
  }

  /** Forget the streamed text: another attempt begins. */
  clear() {
    /** @type {any[]} chunks by index; in order of arrival if the rules do not forward `index` */
    this.chunks = [];
    this.holes = false;
    this.unmarked = false;
    this.held = 0;
    this.joined = "";
    /** Whether the next chunk is the attempt's whole text, and whether the text was compared with the output. */
    this.awaited = false;
    this.repaired = false;
  }

  /** Whether the step has ended; only a new attempt (of a replayed run) changes that. */
  get over() {
    return this.status === "completed" || this.status === "skipped" || this.status === "failed" || this.status === "cancelled";
  }

  /** The text that the current attempt has streamed, without missing parts. */
  get text() {
    if (this.joined === null) this.joined = this.chunks.filter((chunk) => typeof chunk === "string").join("");
    return this.joined;
  }

  /** Whether nothing is missing from `text` so far. */
  get complete() {
    return this.repaired || (!this.doubted && !this.holes && this.held === this.chunks.length);
  }

  /**
   * A chunk that the proxy made from the step's output (a rule with `whole`): the whole text, or its missing end.
   *
   * @param {any} chunk @param {number|null|undefined} index 0 for the whole text
   */
  repair(chunk, index) {
    if (this.repaired) return; // sent again after a reconnect
    let repaired = index === this.chunks.length && this.held === index && !this.holes; // the end, and no hole before it
    if (index === 0 || this.awaited || (this.stale && typeof index !== "number")) {
      this.clear();
      this.stale = false;
      repaired = true;
    }
    this.add(chunk, index, true);
    this.repaired = repaired;
    if (repaired) this.doubted = false;
  }

  /** @param {number} attempt */
  begin(attempt) {
    this.clear();
    this.doubted = false;
    this.stale = false;
    this.attempt = attempt;
    this.status = "started";
    this.payload = undefined;
  }

  /** @param {any} chunk @param {number|null|undefined} index @param {boolean} marked whether the frame named the attempt */
  add(chunk, index, marked) {
    if (this.repaired) return; // the text is whole: one of its chunks is sent again
    if (typeof index !== "number") {
      if (this.stale) {
        this.clear();
        this.holes = true; // sent again from an unknown place: nothing proves that it is the beginning
      }
      index = this.chunks.length;
      this.holes ||= this.doubted;
    }
    this.stale = false;
    this.unmarked ||= !marked;
    if (index in this.chunks) return; // sent again after a reconnect
    if (index >= this.chunks.length) this.doubted = false; // from here on the indexes show what is missing
    this.joined = index === this.chunks.length && this.joined !== null && typeof chunk === "string" ? this.joined + chunk : null;
    this.chunks[index] = chunk;
    this.held += 1;
    if (!this.over) this.status = "streaming";
  }
}

/** Everything that a stream has reported about a run. Pure: frames go in, no I/O. */
export class RunPicture {
  /** @param {{read?: typeof readFrame}} [options] */
  constructor({ read = readFrame } = {}) {
    this.read = read;
    /** @type {Map<string, StepPicture>} in the order in which the stream first named them */
    this.steps = new Map();
    /** @type {"running"|"completed"|"failed"|"cancelled"} anything but running is the verified end */
    this.status = "running";
    /** The payload of the run's end, if a rule forwards `run_*` events. */
    this.payload = undefined;
    /** Every announced gap, in order: {cause, step, attempt, missed}. */
    this.gaps = [];
    this.doubted = false;
  }

  /** Whether the verified end has arrived. */
  get ended() {
    return this.status !== "running";
  }

  /** Whether nothing is missing from any step's text. */
  get complete() {
    return [...this.steps.values()].every((step) => step.complete);
  }

  /** @param {string} name the SSE event's name @param {any} data its parsed data */
  frame(name, data) {
    if (name === "stream.gap") this.#gap(data);
    else if (name === "stream.reset") this.#reset(data);
    else if (name === "stream.end") this.status = data.status;
    else if (!CONTROL_FRAMES.includes(name)) this.#event(this.read(name, data));
  }

  #step(name) {
    let step = this.steps.get(name);
    if (!step) this.steps.set(name, (step = new StepPicture(name, this.doubted)));
    return step;
  }

  #gap(gap) {
    this.gaps.push(gap);
    if (gap.step !== null) {
      const step = this.#step(gap.step);
      const attempt = gap.attempt ?? step.attempt;
      if (attempt > step.attempt) step.begin(attempt);
      if (attempt === step.attempt) step.doubted = true;
      return;
    }
    this.doubted = true; // also for steps that are not known yet
    for (const step of this.steps.values()) {
      if (!step.over || !step.complete) step.doubted = true;
      step.stale = gap.cause === "unknown_cursor"; // the stream begins anew: chunks without an index replace the text
    }
  }

  #reset({ step: name, attempt, whole = false }) {
    const step = this.#step(name);
    if (attempt > step.attempt) step.begin(attempt);
    else if (whole && attempt === step.attempt) step.clear();
    else if (step.unmarked) step.clear(); // the chunks before it are of an unknown attempt
    if (whole && attempt === step.attempt) step.awaited = true;
  }

  #event(event) {
    if (!event) return;
    if (event.type.startsWith("run_")) this.payload = event.payload;
    if (typeof event.step !== "string" || !event.type.startsWith("step_")) return;
    const known = this.steps.has(event.step);
    const step = this.#step(event.step);
    const attempt = event.attempt ?? step.attempt;
    // an earlier attempt, sent again. But an end counts even so: without a history nobody knows which attempt
    // it was, and the event names the first
    if (attempt < step.attempt && !(event.type in ENDS)) return;
    if (attempt > step.attempt) step.begin(attempt);
    if (event.type === "step_stream" && (event.recovered || step.awaited)) step.repair(event.payload, event.index);
    else if (event.type === "step_stream") step.add(event.payload, event.index, event.attempt != null);
    else if (event.type in ENDS) {
      step.status = ENDS[event.type];
      step.payload = event.payload;
    } else if (event.type === "step_retrying" && !step.over) {
      step.status = "retrying";
      step.payload = event.payload;
    } else if (event.type === "step_started" && !known && event.recovered === false) step.doubted = false; // seen live
  }
}

/**
 * Follow a run with an EventSource until its verified end.
 *
 * `state` is one of: `connecting`; `open`; `waiting` (the proxy sent `stream.wait`; `cause` says why); `reconnecting`;
 * and the final states `ended` (verified), `expired` (the credentials have expired: follow again with new ones and
 * `{picture: run.picture, lastEventId: run.lastEventId}`), `refused` (the answer was not a stream: no such run, not
 * allowed, …), `closed` (by `close()`).
 *
 * @param {string} url
 * @param {object} [options]
 * @param {string[]} [options.events] event names that the stream's rules use, beside unnamed messages
 * @param {(run: RunFollower) => void} [options.onchange] after each frame and each change of `state`
 * @param {(name: string, data: any, event: MessageEvent) => void} [options.onframe] each frame as it arrived
 * @param {RunPicture} [options.picture] a picture to go on with
 * @param {string} [options.lastEventId] the cursor to go on from
 * @param {boolean} [options.withCredentials] cookies for another origin
 * @param {typeof EventSource} [options.EventSource] another implementation
 */
export function followRun(url, options = {}) {
  return new RunFollower(url, options);
}

export class RunFollower {
  #source;
  #onchange;
  #onframe;

  constructor(url, options) {
    const Source = options.EventSource ?? globalThis.EventSource;
    this.picture = options.picture ?? new RunPicture();
    this.state = "connecting";
    this.cause = null;
    this.lastEventId = options.lastEventId ?? "";
    this.#onchange = options.onchange ?? (() => {});
    this.#onframe = options.onframe ?? (() => {});
    if (options.lastEventId) url += `${url.includes("?") ? "&" : "?"}last_event_id=${encodeURIComponent(options.lastEventId)}`;
    this.#source = new Source(url, { withCredentials: options.withCredentials ?? false });
    this.#source.onopen = () => this.#become("open");
    this.#source.onerror = () => this.#lost();
    for (const name of new Set(["message", ...(options.events ?? []), ...CONTROL_FRAMES])) {
      this.#source.addEventListener(name, (event) => this.#frame(name, event));
    }
  }

  /** Stop; no function is called afterwards. */
  close() {
    this.#finish("closed");
  }

  get #done() {
    return ["ended", "expired", "refused", "closed"].includes(this.state);
  }

  #frame(name, event) {
    if (this.#done) return;
    const data = JSON.parse(event.data);
    this.lastEventId = event.lastEventId || this.lastEventId;
    this.picture.frame(name, data);
    this.#onframe(name, data, event);
    if (name === "stream.end") this.#finish("ended");
    else if (name === "stream.expired") this.#finish("expired");
    else if (name === "stream.wait") this.#become("waiting", data.cause);
    else if (name === "stream.drain") this.#become("reconnecting", "drain");
    else this.#become("open");
  }

  #lost() {
    if (this.#done) return;
    if (this.#source.readyState === 2) this.#finish("refused");
    else if (this.state !== "waiting") this.#become("reconnecting", this.cause);
  }

  #finish(state) {
    if (this.#done) return;
    this.#source.close();
    this.#become(state);
  }

  #become(state, cause = null) {
    this.state = state;
    this.cause = cause;
    this.#onchange(this);
  }
}
