// The follower around a picture, on an EventSource that a test moves by hand.
import assert from "node:assert/strict";
import test from "node:test";
import { followRun } from "../../../clients/js/stream-proxy.js";

class FakeEventSource {
  static last;
  listeners = {};
  readyState = 0;
  constructor(url, options) {
    Object.assign(this, { url, options });
    FakeEventSource.last = this;
  }
  addEventListener(name, listener) {
    this.listeners[name] = listener;
  }
  close() {
    this.readyState = 2;
  }
  open() {
    this.readyState = 1;
    this.onopen();
  }
  say(name, data, id = "") {
    this.listeners[name]?.({ data: JSON.stringify(data), lastEventId: id });
  }
  fail(final) {
    this.readyState = final ? 2 : 0;
    this.onerror();
  }
}

function follow(options = {}) {
  const states = [];
  const run = followRun("/message/1", {
    EventSource: FakeEventSource,
    onchange: ({ state, cause }) => states.push(cause ? `${state} ${cause}` : state),
    ...options,
  });
  return { run, states, source: FakeEventSource.last };
}

test("merged chunks fill the places from first_index to index, and a gap among them leaves the text incomplete", () => {
  const { run, source } = follow();
  source.open();
  const say = (first_index, index, payload) =>
    source.say("message", { type: "step_stream", step: "a", attempt: 1, first_index, index, payload });
  say(0, 2, "Hel");
  say(3, 3, "l");
  say(3, 3, "l"); // sent again
  assert.equal(run.picture.steps.get("a").text, "Hell");
  assert.equal(run.picture.steps.get("a").complete, true);
  source.say("stream.gap", { cause: "upstream", step: "a", attempt: 1, missed: 1 });
  say(4, 6, "o!");
  assert.equal(run.picture.steps.get("a").text, "Hello!");
  assert.equal(run.picture.steps.get("a").complete, false);
});

test("a run is followed to its verified end, and then the connection is closed", () => {
  const { run, states, source } = follow({ events: ["token"] });
  assert.equal(run.state, "connecting");
  source.open();
  source.say("token", { step: "a", attempt: 1, index: 0, text: "Hi" }, "7");
  source.say("message", { type: "step_completed", step: "a", attempt: 1, payload: 3 }, "8");
  source.say("stream.end", { status: "completed" }, "9");
  assert.deepEqual(states, ["open", "open", "open", "ended"]);
  assert.equal(source.readyState, 2);
  assert.equal(run.lastEventId, "9");
  assert.equal(run.picture.steps.get("a").text, "Hi");
  assert.equal(run.picture.ended, true);
});

test("nothing is called after close", () => {
  const { run, states, source } = follow();
  run.close();
  source.say("message", { type: "step_started", step: "a" });
  source.fail(true);
  assert.deepEqual(states, ["closed"]);
});

test("a lost connection is EventSource's to mend, an answer that is no stream is final", () => {
  const { states, source } = follow();
  source.open();
  source.fail(false);
  source.open();
  source.fail(true);
  assert.deepEqual(states, ["open", "reconnecting", "open", "refused"]);
});

test("wait and drain say why the connection goes", () => {
  const { states, source } = follow();
  source.open();
  source.say("stream.wait", { cause: "hatchet" });
  source.fail(false);
  source.open();
  source.say("stream.drain", {});
  source.fail(false);
  assert.deepEqual(states, ["open", "waiting hatchet", "open", "reconnecting drain", "reconnecting drain"]);
});

test("expired credentials end it; the next one goes on from the cursor with the same picture", () => {
  const { run, source } = follow();
  source.say("message", { type: "step_started", step: "a" }, "é 1");
  source.say("stream.expired", {});
  assert.equal(run.state, "expired");
  assert.equal(source.readyState, 2);
  const next = follow({ picture: run.picture, lastEventId: run.lastEventId, withCredentials: true });
  assert.equal(next.source.url, "/message/1?last_event_id=%C3%A9%201");
  assert.deepEqual(next.source.options, { withCredentials: true });
  assert.equal(next.run.picture.steps.has("a"), true);
});

test("each frame is shown as it came", () => {
  const frames = [];
  const { source } = follow({ events: ["token"], onframe: (name, data) => frames.push([name, data]) });
  source.say("token", "just text");
  source.say("stream.gap", { cause: "joined_late", step: "a", attempt: 1, missed: null });
  assert.deepEqual(frames, [
    ["token", "just text"],
    ["stream.gap", { cause: "joined_late", step: "a", attempt: 1, missed: null }],
  ]);
});

const ticks = (milliseconds = 30) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const until = async (condition) => {
  while (!condition()) await ticks(2);
};

test("the url may be a function; it is called again when the credentials have expired, and the stream goes on", async () => {
  let tickets = 0;
  const states = [];
  FakeEventSource.last = undefined;
  const run = followRun(async () => `/message/1?ticket=${++tickets}`, {
    EventSource: FakeEventSource,
    onchange: ({ state, cause }) => states.push(cause ? `${state} ${cause}` : state),
  });
  await until(() => FakeEventSource.last);
  const first = FakeEventSource.last;
  assert.equal(first.url, "/message/1?ticket=1");
  first.open();
  first.say("message", { type: "step_stream", step: "a", attempt: 1, index: 0, payload: "Hi" }, "c1");
  first.say("stream.expired", {});
  assert.equal(first.readyState, 2);
  await until(() => FakeEventSource.last !== first);
  assert.equal(FakeEventSource.last.url, "/message/1?ticket=2&last_event_id=c1");
  FakeEventSource.last.open();
  first.say("message", { type: "step_stream", step: "a", attempt: 1, index: 1, payload: "void" }, "c2");
  assert.equal(run.picture.steps.get("a").text, "Hi"); // the old connection is not heard any more
  assert.deepEqual(states, ["open", "open", "reconnecting expired", "open"]);
  run.close();
});

test("a reconnect that is refused is answered with a new url, a first connection that is refused is final", async () => {
  let tickets = 0;
  FakeEventSource.last = undefined;
  const run = followRun(async () => `/message/1?ticket=${++tickets}`, { EventSource: FakeEventSource });
  await until(() => FakeEventSource.last);
  const first = FakeEventSource.last;
  first.open();
  first.fail(true); // the ticket expired while the page slept: 401
  await until(() => FakeEventSource.last !== first);
  assert.equal(FakeEventSource.last.url, "/message/1?ticket=2");
  FakeEventSource.last.open();
  assert.equal(run.state, "open");
  run.close();

  FakeEventSource.last = undefined;
  const unknown = followRun(async () => "/message/2", { EventSource: FakeEventSource });
  await until(() => FakeEventSource.last);
  FakeEventSource.last.fail(true);
  assert.equal(unknown.state, "refused");
});

test("a url function that fails is called again; one that gives null ends it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const answers = [() => Promise.reject(new Error("offline")), () => Promise.resolve(null)];
  const run = followRun(() => answers.shift()(), { EventSource: FakeEventSource });
  const turn = async (milliseconds) => {
    t.mock.timers.tick(milliseconds);
    for (let i = 0; i < 5; i += 1) await Promise.resolve();
  };
  await turn(0);
  assert.deepEqual([run.state, run.cause], ["waiting", "url"]);
  await turn(1000);
  assert.equal(run.state, "expired");
});

test("after close no url is asked for", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let asked = 0;
  const run = followRun(async () => `/message/${++asked}`, { EventSource: FakeEventSource });
  run.close();
  t.mock.timers.tick(60_000);
  assert.equal(asked, 0);
});

test("204 after the verified end is no refusal", () => {
  const { run, source } = follow();
  run.picture.frame("stream.end", { status: "completed" });
  source.fail(true);
  assert.equal(run.state, "ended");
});

test("a hundred frames are one snapshot, and what did not change is the same object", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { run, source } = follow({ events: ["token"] });
  let calls = 0;
  const leave = run.subscribe(() => (calls += 1));
  const empty = run.getSnapshot();
  source.open();
  source.say("message", { type: "step_completed", step: "plan", attempt: 1, payload: { n: 3 } }, "p");
  for (let index = 0; index < 100; index += 1) source.say("token", { step: "a", attempt: 1, index, text: "x" }, `c${index}`);
  assert.equal(run.getSnapshot(), empty); // not before the frame of the screen
  t.mock.timers.tick(16);
  assert.equal(calls, 1);
  const full = run.getSnapshot();
  assert.notEqual(full, empty);
  assert.deepEqual(Object.keys(empty.steps), []);
  assert.equal(full.steps.a.text, "x".repeat(100));
  assert.equal(full.messages.length, 101);
  for (const value of [full, full.steps, full.steps.a, full.messages, full.messages[0], full.gaps]) assert.ok(Object.isFrozen(value));
  source.say("token", { step: "a", attempt: 1, index: 100, text: "y" }, "c100");
  t.mock.timers.tick(16);
  assert.equal(calls, 2);
  assert.equal(run.getSnapshot().steps.plan, full.steps.plan);
  assert.equal(run.getSnapshot().gaps, full.gaps);
  source.say("token", { step: "a", attempt: 1, index: 100, text: "y" }, "c100"); // sent again
  source.say("stream.wait", { cause: "limit" });
  leave();
  t.mock.timers.tick(16);
  assert.equal(calls, 2);
  assert.deepEqual([run.getSnapshot().state, run.getSnapshot().cause], ["waiting", "limit"]);
});

test("in a page a snapshot is made with the animation frame, or soon after where none is painted", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const frames = [];
  globalThis.requestAnimationFrame = (callback) => frames.push(callback);
  t.after(() => delete globalThis.requestAnimationFrame);
  const { run, source } = follow();
  let calls = 0;
  run.subscribe(() => (calls += 1));
  source.open();
  source.say("message", { type: "step_started", step: "a" });
  assert.equal(frames.length, 1);
  frames.pop()();
  assert.equal(calls, 1);
  source.say("stream.end", { status: "completed" });
  t.mock.timers.tick(250); // the page is hidden
  assert.equal(calls, 2);
  assert.equal(run.getSnapshot().status, "completed");
});

test("messages of a failed attempt are taken out, and a stream that begins anew replaces them", () => {
  const { run, source } = follow({ events: ["token"], messages: 3 });
  const events = () => run.getSnapshot().messages.map(({ event, data }) => `${event} ${data.text ?? data.type}`);
  source.say("message", { type: "step_started", step: "a" });
  source.say("token", { step: "a", attempt: 1, index: 0, text: "wrong" });
  source.say("stream.reset", { step: "a", attempt: 2 });
  source.say("token", { step: "a", attempt: 2, index: 0, text: "right" });
  assert.deepEqual(events(), ["message step_started", "token right"]);
  source.say("stream.gap", { cause: "unknown_cursor", step: null, attempt: null, missed: null });
  for (const text of ["1", "2", "3", "4"]) source.say("token", { step: "b", text });
  assert.deepEqual(events(), ["token 2", "token 3", "token 4"]); // the newest three
});

test("a run that is paused goes on from its cursor", () => {
  const { run, source } = follow();
  source.say("message", { type: "step_started", step: "a" }, "7");
  run.pause();
  assert.equal(source.readyState, 2);
  run.open();
  run.open();
  assert.notEqual(FakeEventSource.last, source);
  assert.equal(FakeEventSource.last.url, "/message/1?last_event_id=7");
  assert.equal(run.picture.steps.has("a"), true);
});
