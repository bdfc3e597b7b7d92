// The follower around a picture, on an EventSource that a test moves by hand.
import assert from "node:assert/strict";
import test from "node:test";
import { followRun } from "../../../clients/stream-proxy.js";

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
