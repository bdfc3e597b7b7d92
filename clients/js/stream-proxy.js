/**
 * Builds a picture of a run from a stream-proxy stream: the state of each step, the text it has streamed, and
 * whether that text is complete. No dependencies, no build step; works wherever there is an EventSource.
 *
 *     import { followRun } from "hatchet-stream-proxy";    // or "./stream-proxy.js"
 *
 *     const run = followRun(`/streams/live/${runId}`, {
 *       events: ["token", "step", "run"],                  // the event names that the stream's rules use
 *     });
 *     run.subscribe(() => render(run.getSnapshot()));      // at most once per animation frame
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

  /**
   * A chunk, or several that a rule with `merge` made one frame of: those from `first_index` to `index`.
   *
   * @param {{payload?: any, index?: number|null, first_index?: number|null}} event @param {boolean} marked
   */
  addMerged({ payload, index, first_index: first }, marked) {
    if (typeof index !== "number" || typeof first !== "number" || first >= index) return this.add(payload, index, marked);
    if (this.repaired) return;
    if (this.doubted && first <= this.chunks.length) this.holes = true; // the gap that was announced may be inside
    const parts = Array.isArray(payload) && payload.length === index - first + 1 ? payload : [payload];
    for (let at = first; at <= index; at += 1) this.add(at - first < parts.length ? parts[at - first] : "", at, marked);
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
    else if (event.type === "step_stream") step.addMerged(event, event.attempt != null);
    else if (event.type in ENDS) {
      step.status = ENDS[event.type];
      step.payload = event.payload;
    } else if (event.type === "step_retrying" && !step.over) {
      step.status = "retrying";
      step.payload = event.payload;
    } else if (event.type === "step_started" && !known && event.recovered === false) step.doubted = false; // seen live
  }
}

/** How long a hidden page, which paints no frames, waits for a snapshot; in milliseconds. */
const HIDDEN_FRAME = 250;
/** About one animation frame, where there is no `requestAnimationFrame`; in milliseconds. */
const FRAME = 16;
/** How often an answer that is no stream is met with a new URL, for a run that was already followed. */
const MOST_REFUSALS = 5;
const LONGEST_PAUSE = 30_000; // milliseconds between two calls of a `url` function that fails
const MOST_MESSAGES = 1000; // as the proxy's own default backlog
const FINAL = ["ended", "expired", "refused", "closed"];

/** Calls `callback` with the next animation frame, or soon where none is painted. */
function nextFrame(callback) {
  let called = false;
  const once = () => {
    if (!called) callback();
    called = true;
  };
  const painted = typeof requestAnimationFrame === "function";
  if (painted) requestAnimationFrame(once);
  setTimeout(once, painted ? HIDDEN_FRAME : FRAME);
}

/** `next`, or `previous` if all their fields are the same, so that what did not change keeps its identity. */
function same(previous, next) {
  const names = Object.keys(next);
  const sameLength = previous && names.length === Object.keys(previous).length;
  return sameLength && names.every((name) => previous[name] === next[name]) ? previous : Object.freeze(next);
}

/**
 * Follow a run with an EventSource until its verified end.
 *
 * `state` is one of: `connecting`; `open`; `waiting` (`cause` says why: the proxy's `hatchet`, `limit` or `config`, or
 * `url`: the `url` function failed and is called again); `reconnecting`; and the final states `ended` (verified),
 * `expired` (the credentials have expired; only with a fixed URL), `refused` (the answer was not a stream: no such run,
 * not allowed, …), `closed` (by `close()`).
 *
 * @param {string | (() => Promise<string | null>)} url the stream's URL; or a function that makes one, for example with
 *   a new ticket. It is called for the first connection and whenever the credentials have expired; the stream then goes
 *   on from its cursor. Where it gives null, the run's state is `expired`
 * @param {object} [options]
 * @param {string[]} [options.events] event names that the stream's rules use, beside unnamed messages
 * @param {(run: RunFollower) => void} [options.onchange] after each frame and each change of `state`
 * @param {(name: string, data: any, event: MessageEvent) => void} [options.onframe] each frame as it arrived
 * @param {RunPicture} [options.picture] a picture to go on with
 * @param {string} [options.lastEventId] the cursor to go on from
 * @param {number} [options.messages] how many messages a snapshot has at most, the newest ones; 1000 by default
 * @param {boolean} [options.withCredentials] cookies for another origin
 * @param {typeof EventSource} [options.EventSource] another implementation
 */
export function followRun(url, options = {}) {
  const run = new RunFollower(url, options);
  run.open();
  return run;
}

/** Follows a run: `open` connects, `pause` disconnects and keeps the place, `close` is final. */
export class RunFollower {
  #url;
  #options;
  #source = null;
  #generation = 0; // counts connections: what belongs to an earlier one is ignored
  #opened = false; // whether the stream was open at least once
  #refusals = 0; // answers without a stream since it was last open
  #failures = 0; // calls of the `url` function that failed, in a row
  #timer;
  #messages = []; // {event, data}, with the step whose chunk it is
  #listeners = new Set();
  #snapshot = null;
  #changed = false;
  #announced = false;

  constructor(url, options = {}) {
    this.#url = url;
    this.#options = options;
    this.picture = options.picture ?? new RunPicture();
    this.state = "connecting";
    this.cause = null;
    this.lastEventId = options.lastEventId ?? "";
    this.#snapshot = this.#taken();
  }

  /** Connect, from the cursor if there is one; nothing happens on an open or finished run. */
  open() {
    if (this.#done || this.#source || this.#timer !== undefined) return;
    if (typeof this.#url === "function") this.#renew();
    else this.#connect(this.#url);
  }

  /** Disconnect; `open` goes on from here. */
  pause() {
    if (this.#done) return;
    this.#disconnect();
    this.state = "connecting";
    this.#publish();
  }

  /** Stop; neither `onchange` nor `onframe` is called afterwards. */
  close() {
    this.#finish("closed");
  }

  /** Call `listener` after changes, at most once per animation frame. Returns the function that ends that. */
  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** The run as one immutable value. It is the same object until the next change is announced. */
  getSnapshot = () => {
    if (this.#changed && !this.#announced) this.#refresh();
    return this.#snapshot;
  };

  get #done() {
    return FINAL.includes(this.state);
  }

  #connect(url) {
    const Source = this.#options.EventSource ?? globalThis.EventSource;
    if (this.lastEventId) url += `${url.includes("?") ? "&" : "?"}last_event_id=${encodeURIComponent(this.lastEventId)}`;
    const source = new Source(url, { withCredentials: this.#options.withCredentials ?? false });
    this.#source = source;
    source.onopen = () => this.#source === source && this.#wasOpened();
    source.onerror = () => this.#source === source && this.#lost();
    for (const name of new Set(["message", ...(this.#options.events ?? []), ...CONTROL_FRAMES])) {
      source.addEventListener(name, (event) => this.#source === source && this.#frame(name, event));
    }
  }

  #disconnect() {
    this.#generation += 1;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#source?.close();
    this.#source = null;
  }

  /** Connect with a new URL after `pause` milliseconds. */
  #renew(pause = 0) {
    this.#disconnect();
    const generation = this.#generation;
    const again = async () => {
      try {
        const url = await this.#url();
        if (generation !== this.#generation) return;
        this.#timer = undefined;
        this.#failures = 0;
        if (url === null) this.#finish("expired");
        else this.#connect(url);
      } catch {
        if (generation !== this.#generation) return;
        this.#failures += 1;
        this.#renew(this.#pauseAfter(this.#failures));
        this.#become("waiting", "url");
      }
    };
    this.#timer = setTimeout(again, pause);
  }

  #pauseAfter(failures) {
    return Math.min(LONGEST_PAUSE, 1000 * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
  }

  #wasOpened() {
    this.#opened = true;
    this.#refusals = 0;
    this.#become("open");
  }

  #frame(name, event) {
    const data = JSON.parse(event.data);
    this.lastEventId = event.lastEventId || this.lastEventId;
    this.picture.frame(name, data);
    this.#keep(name, data);
    this.#options.onframe?.(name, data, event);
    if (this.#done) return; // closed by `onframe`
    if (name === "stream.end") this.#finish("ended");
    else if (name === "stream.expired") this.#expired();
    else if (name === "stream.wait") this.#become("waiting", data.cause);
    else if (name === "stream.drain") this.#become("reconnecting", "drain");
    else this.#become("open");
  }

  #keep(name, data) {
    if (name === "stream.reset") this.#messages = this.#messages.filter(({ chunkOf }) => chunkOf !== data.step);
    else if (name === "stream.gap" && data.cause === "unknown_cursor") this.#messages = []; // the stream begins anew
    if (CONTROL_FRAMES.includes(name)) return;
    const read = this.picture.read(name, data);
    const chunkOf = read?.type === "step_stream" ? read.step : undefined;
    this.#messages.push({ chunkOf, message: Object.freeze({ event: name, data }) });
    const most = this.#options.messages ?? MOST_MESSAGES;
    if (this.#messages.length > most) this.#messages.splice(0, this.#messages.length - most);
  }

  #expired() {
    if (typeof this.#url !== "function") return this.#finish("expired");
    this.#renew();
    this.#become("reconnecting", "expired");
  }

  #lost() {
    if (this.#source.readyState !== 2) {
      if (this.state !== "waiting") this.#become("reconnecting", this.cause);
      return;
    }
    if (this.picture.ended) return this.#finish("ended"); // 204: everything was received
    this.#refusals += 1;
    if (typeof this.#url !== "function" || !this.#opened || this.#refusals > MOST_REFUSALS) return this.#finish("refused");
    this.#renew(this.#refusals === 1 ? 0 : this.#pauseAfter(this.#refusals - 1));
    this.#become("reconnecting", "expired");
  }

  #finish(state) {
    if (this.#done) return;
    this.#disconnect();
    this.#become(state);
  }

  #become(state, cause = null) {
    this.state = state;
    this.cause = cause;
    this.#options.onchange?.(this);
    this.#publish();
  }

  #publish() {
    this.#changed = true;
    if (this.#announced || this.#listeners.size === 0) return;
    this.#announced = true;
    nextFrame(() => {
      this.#announced = false;
      const before = this.#snapshot;
      this.#refresh();
      if (this.#snapshot !== before) for (const listener of [...this.#listeners]) listener();
    });
  }

  #refresh() {
    this.#changed = false;
    this.#snapshot = this.#taken();
  }

  /** The picture as it stands; what did not change since the last snapshot is the same object. */
  #taken() {
    const before = this.#snapshot;
    const steps = Object.create(null);
    for (const { name, status, attempt, text, complete, payload } of this.picture.steps.values()) {
      steps[name] = same(before?.steps[name], { name, status, attempt, text, complete, payload });
    }
    const { status, payload, complete, gaps } = this.picture;
    const { state, cause } = this;
    return same(before, {
      state,
      cause,
      status,
      steps: same(before?.steps, steps),
      messages: same(before?.messages, this.#messages.map(({ message }) => message)),
      gaps: same(before?.gaps, [...gaps]),
      complete,
      payload,
    });
  }
}
