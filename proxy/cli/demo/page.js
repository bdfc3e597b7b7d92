// The demo's page: a click triggers a run; each reader is one EventSource with its own state of the run.
import { followRun } from "./stream-proxy.js";

const STREAM = "/streams/live/";
const EVENTS = ["token", "step", "run"]; // the names that the rules of the stream use
const MOST_READERS = 4; // a browser opens six connections to a host over HTTP/1.1

const $ = (id) => document.getElementById(id);
const copyOf = (template) => $(template).content.firstElementChild.cloneNode(true);

const WORDS = {
  connecting: "connecting",
  open: "live",
  waiting: "waiting",
  reconnecting: "reconnecting",
  ended: "ended",
  refused: "refused",
  expired: "expired",
  closed: "closed",
};

let current = null; // {id, since, readers}

class Reader {
  constructor(runId, title) {
    this.url = STREAM + runId;
    this.element = copyOf("reader-template");
    this.steps = new Map();
    this.count = 0;
    this.part("h2").textContent = title;
    this.part(".cut").onclick = () => this.cut();
    this.part(".raw").ontoggle = () => (this.part(".frames").scrollTop = this.part(".frames").scrollHeight);
    $("readers").append(this.element);
    this.follow();
  }

  part(selector) {
    return this.element.querySelector(selector);
  }

  follow(more = {}) {
    this.run = followRun(this.url, {
      events: EVENTS,
      onframe: (name, data, event) => this.frame(name, event),
      onchange: () => this.draw(),
      ...more,
    });
    this.draw();
  }

  /** Close the connection and resume with the cursor, as after a lost network. */
  cut() {
    const { picture, lastEventId } = this.run;
    this.run.close();
    this.note("connection cut; resumed with the cursor");
    this.follow({ picture, lastEventId });
  }

  close() {
    this.run.close();
    this.element.remove();
  }

  frame(name, event) {
    const lines = event.lastEventId ? [["id", event.lastEventId]] : [];
    if (name !== "message") lines.push(["event", name]);
    lines.push(["data", event.data]);
    const item = document.createElement("li");
    item.className = name.startsWith("stream.") ? "control" : "";
    for (const [field, value] of lines) {
      const line = document.createElement("div");
      const key = document.createElement("b");
      key.textContent = `${field}: `;
      line.append(key, value);
      item.append(line);
    }
    this.append(item);
    this.part(".count").textContent = ++this.count;
  }

  note(text) {
    const item = document.createElement("li");
    item.className = "note";
    item.textContent = text;
    this.append(item);
  }

  append(item) {
    const frames = this.part(".frames");
    const atEnd = frames.scrollHeight - frames.scrollTop - frames.clientHeight < 40;
    frames.append(item);
    if (atEnd) frames.scrollTop = frames.scrollHeight;
  }

  draw() {
    if (!this.run) return;
    const { picture, state, cause } = this.run;
    const stateNow = this.part(".state");
    stateNow.textContent = cause ? `${WORDS[state]}: ${cause}` : WORDS[state];
    this.element.dataset.state = state;
    this.part(".cut").hidden = ["ended", "refused", "expired", "closed"].includes(state);
    for (const step of picture.steps.values()) this.drawStep(step);
    if (picture.ended) this.drawEnd(picture);
  }

  drawStep(step) {
    let row = this.steps.get(step.name);
    if (!row) {
      row = copyOf("step-template");
      row.querySelector(".name").textContent = step.name;
      row.dataset.step = step.name;
      this.steps.set(step.name, row);
      this.part(".steps").append(row);
    }
    row.dataset.status = step.status;
    row.querySelector(".status").textContent = step.status;
    row.querySelector(".attempt").textContent = step.attempt > 1 ? `attempt ${step.attempt}` : "";
    const text = row.querySelector(".text");
    if (text.textContent !== step.text) text.textContent = step.text;
    row.querySelector(".holes").hidden = step.complete || !step.text;
  }

  drawEnd(picture) {
    const end = this.part(".end");
    end.hidden = false;
    end.dataset.status = picture.status;
    end.textContent = `Verified end: ${picture.status}`;
  }
}

function watch(id, title) {
  current?.readers.forEach((reader) => reader.close());
  current = { id, since: performance.now(), readers: [] };
  history.replaceState(null, "", `#${id}`);
  $("empty").hidden = true;
  $("run").hidden = false;
  $("run-id").textContent = id;
  $("curl").textContent = `curl -N ${location.origin}${STREAM}${id}`;
  join(title);
}

function seconds() {
  return ((performance.now() - current.since) / 1000).toFixed(1);
}

function join(title) {
  current.readers.push(new Reader(current.id, title));
  document.body.dataset.readers = current.readers.length;
  $("join").disabled = current.readers.length >= MOST_READERS;
}

async function start(workflow) {
  const answer = await fetch("/demo/runs", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ workflow }),
  });
  if (!answer.ok) throw new Error(`The engine answered ${answer.status}`);
  watch((await answer.json()).run_id, "From the start");
}

for (const button of document.querySelectorAll("[data-workflow]")) {
  button.onclick = async () => {
    button.disabled = true;
    try {
      await start(button.dataset.workflow);
    } catch (error) {
      $("empty").hidden = false;
      $("empty").textContent = String(error.message);
    } finally {
      button.disabled = false;
    }
  };
}

$("join").onclick = () => join(`Joined ${seconds()} s later`);
$("reload").onclick = () => location.reload();
$("outage").onclick = async () => {
  const button = $("outage");
  button.disabled = true;
  const { seconds } = await (await fetch("/demo/outage", { method: "POST" })).json();
  for (const reader of current.readers) reader.note(`Hatchet is unreachable for ${seconds} s`);
  button.textContent = "Hatchet is unreachable…";
  setTimeout(() => {
    button.disabled = false;
    button.textContent = "Take Hatchet away";
  }, seconds * 1000);
};
$("copy").onclick = async () => {
  await navigator.clipboard.writeText($("curl").textContent);
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
};

setInterval(() => {
  const going = current?.readers.some((reader) => !reader.run.picture.ended);
  if (going) $("clock").textContent = `${seconds()} s`;
}, 100);

fetch("/demo/streams.yaml")
  .then((answer) => answer.text())
  .then((text) => ($("yaml").textContent = text));

if (/^#[0-9a-f-]{36}$/i.test(location.hash)) watch(location.hash.slice(1), "After a reload");
