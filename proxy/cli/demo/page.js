// The demo's page: a click triggers a run; each reader is one EventSource with its own picture of the run.
import { gapNotice, stateNotice } from "./notices.js";
import { followRun } from "./stream-proxy.js";

const STREAM = "/streams/live/";
const EVENTS = ["token", "step", "run"]; // the names that the rules of the stream use
const MOST_READERS = 4; // a browser opens six connections to a host over HTTP/1.1
const MOST_NEWS = 30; // lines kept for screen readers

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

/** Tell screen readers. */
function announce(text) {
  const line = document.createElement("p");
  line.textContent = text;
  $("news").append(line);
  while ($("news").childElementCount > MOST_NEWS) $("news").firstElementChild.remove();
}

/** Show what went wrong with a button; null: nothing. */
function trouble(text) {
  $("trouble").hidden = text === null;
  $("trouble").textContent = text ?? "";
}

/** Show each text once, in a list that is hidden while it is empty. */
function fill(list, texts) {
  const wanted = [...new Set(texts)];
  if (wanted.join("\n") === [...list.children].map((item) => item.textContent).join("\n")) return;
  list.hidden = wanted.length === 0;
  list.replaceChildren(
    ...wanted.map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }),
  );
}

class Reader {
  constructor(runId, title) {
    this.url = STREAM + runId;
    this.title = title;
    this.element = copyOf("reader-template");
    this.steps = new Map();
    this.count = 0;
    this.part("h2").textContent = title;
    this.part(".frames").setAttribute("aria-label", `Frames: ${title}`);
    this.part(".cut").setAttribute("aria-label", `Cut and resume: ${title}`);
    this.element.setAttribute("aria-label", title);
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
      onframe: (name, data, event) => this.frame(name, data, event),
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

  frame(name, data, event) {
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
    if (name === "stream.gap") announce(`${this.title}: ${data.step ?? "the stream"}: ${gapNotice(data)}`);
  }

  note(text) {
    const item = document.createElement("li");
    item.className = "note";
    item.textContent = text;
    this.append(item);
    announce(`${this.title}: ${text}`);
  }

  append(item) {
    const frames = this.part(".frames");
    const atEnd = frames.scrollHeight - frames.scrollTop - frames.clientHeight < 40;
    frames.firstElementChild.append(item);
    if (atEnd) frames.scrollTop = frames.scrollHeight;
  }

  draw() {
    if (!this.run) return;
    const { picture, state, cause } = this.run;
    const words = cause ? `${WORDS[state]}: ${cause}` : WORDS[state];
    const stateNow = this.part(".state");
    const notice = stateNotice(state, cause);
    if (stateNow.textContent !== words) {
      stateNow.textContent = words;
      if (notice) announce(`${this.title}: ${notice}`);
    }
    this.element.dataset.state = state;
    this.part(".cut").hidden = ["ended", "refused", "expired", "closed"].includes(state);
    const ofAll = picture.gaps.filter((gap) => gap.step === null).map(gapNotice);
    fill(this.part(".notices"), notice ? [notice, ...ofAll] : ofAll);
    for (const step of picture.steps.values()) this.drawStep(step, picture.gaps);
    if (picture.ended) this.drawEnd(picture);
  }

  drawStep(step, gaps) {
    let row = this.steps.get(step.name);
    if (!row) {
      row = copyOf("step-template");
      row.querySelector(".name").textContent = step.name;
      row.dataset.step = step.name;
      this.steps.set(step.name, row);
      this.part(".steps").append(row);
    }
    if (row.dataset.status !== step.status && current?.readers.indexOf(this) < 1) announce(`${step.name}: ${step.status}`);
    row.dataset.status = step.status;
    row.querySelector(".status").textContent = step.status;
    row.querySelector(".attempt").textContent = step.attempt > 1 ? `attempt ${step.attempt}` : "";
    const text = row.querySelector(".text");
    if (text.textContent !== step.text) text.textContent = step.text;
    fill(row.querySelector(".holes"), gaps.filter((gap) => gap.step === step.name).map(gapNotice));
    // Where text was lost, the output shows what the step made in the end.
    const output = row.querySelector(".output");
    output.hidden = step.complete || step.status !== "completed" || step.payload == null;
    if (!output.hidden) output.querySelector("pre").textContent = JSON.stringify(step.payload, null, 2);
  }

  drawEnd(picture) {
    const end = this.part(".end");
    if (!end.hidden) return;
    end.hidden = false;
    end.dataset.status = picture.status;
    end.textContent = `Verified end: ${picture.status}`;
    announce(`${this.title}: verified end: the run is ${picture.status}`);
  }
}

function watch(id, title) {
  current?.readers.forEach((reader) => reader.close());
  current = { id, since: performance.now(), readers: [] };
  history.replaceState(null, "", `#${id}`);
  trouble(null);
  $("empty").hidden = true;
  $("run").hidden = false;
  $("terminal").hidden = false;
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

/** POST to the demo; the answer as JSON. Throws an Error with a sentence for the user. */
async function post(path, body) {
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body ?? {}) };
  const answer = await fetch(path, request).catch(() => {
    throw new Error("The demo does not answer. Is `stream-proxy demo` still running?");
  });
  if (!answer.ok) throw new Error(`The demo answered with status ${answer.status}.`);
  return answer.json();
}

/** Run an action of a button, with the button disabled until it is done. */
async function act(button, action) {
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    trouble(error.message);
  } finally {
    button.disabled = false;
  }
}

for (const button of document.querySelectorAll("[data-workflow]")) {
  button.onclick = () =>
    act(button, async () => {
      const { run_id } = await post("/demo/runs", { workflow: button.dataset.workflow });
      announce(`A run of ${button.dataset.workflow} has started`);
      watch(run_id, "From the start");
    });
}

$("join").onclick = () => join(`Joined ${seconds()} s later`);
$("reload").onclick = () => location.reload();
$("outage").onclick = () =>
  act($("outage"), async () => {
    const { seconds } = await post("/demo/outage");
    const label = $("outage").textContent;
    for (const reader of current.readers) reader.note(`Hatchet cannot be reached for ${seconds} s`);
    $("outage").textContent = "Hatchet is stopped…";
    await new Promise((done) => setTimeout(done, seconds * 1000));
    $("outage").textContent = label;
  });
$("copy").onclick = async () => {
  // Without HTTPS browsers have a clipboard on localhost only.
  const copied = await navigator.clipboard?.writeText($("curl").textContent).then(() => true, () => false);
  $("copy").textContent = copied ? "Copied" : "Not allowed";
  announce(copied ? "Copied" : "The browser does not allow copying here");
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
};

setInterval(() => {
  const going = current?.readers.some((reader) => !reader.run.picture.ended && reader.run.state !== "refused");
  if (going) $("clock").textContent = `${seconds()} s`;
}, 100);

fetch("/demo/streams.yaml")
  .then((answer) => answer.text())
  .then((text) => ($("yaml").textContent = text), () => trouble("The YAML could not be loaded."));

if (/^#[0-9a-f-]{36}$/i.test(location.hash)) watch(location.hash.slice(1), "After a reload");
