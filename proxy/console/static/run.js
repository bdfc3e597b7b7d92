// One run: its events as they came, which rule decided each, and why the others did not.

import { get, path } from "./api.js";
import { badge, bytes, clock, facts, h, say, spell, table } from "./dom.js";
import { keep } from "./playground.js";
import { poll } from "./poll.js";

const MOST_ROWS = 3000; // lines of the list: beyond them a page gets slow

export async function run(page, [team, id, opened], signal) {
  const view = new RunPage(page, team, id, signal);
  await view.polling.begin();
  if (opened !== undefined) await view.open(Number(opened));
}

class RunPage {
  constructor(page, team, id, signal) {
    this.team = team;
    this.id = id;
    this.signal = signal;
    this.items = [];
    this.streams = [];
    this.head = h("div");
    this.readers = h("div");
    this.polling = poll(() => this.ask(), signal);
    this.list = h("ol", { class: "events" });
    this.detail = h("section", { class: "detail card", "aria-label": "The event", tabindex: -1, hidden: true });
    this.kind = this.choice("kind", "Events", [["", "all"], ["lifecycle", "lifecycle"], ["chunks", "chunks"],
      ["unsent", "not sent by a stream"], ["losses", "gaps and resets"]]);
    this.step = this.choice("step", "Step", [["", "all"]]);
    page.append(h("h1", {}, "Run ", h("code", {}, id)), this.head, this.polling.note, this.readers,
      h("h2", {}, "Events, as they came"),
      h("p", { class: "filters" }, h("label", { for: "kind" }, "Show "), this.kind, h("label", { for: "step" }, " of step "), this.step),
      h("div", { class: "split" }, h("div", {}, this.list), this.detail));
    this.list.addEventListener("keydown", (event) => this.arrow(event));
  }

  choice(id, label, options) {
    const select = h("select", { id, "aria-label": label }, options.map(([value, text]) => h("option", { value }, text)));
    select.addEventListener("change", () => this.draw());
    return select;
  }

  async ask() {
    let answer;
    do {
      const last = this.items.length === 0 ? 0 : this.items[this.items.length - 1].n;
      answer = await get(`teams/${path(this.team)}/runs/${path(this.id)}?after=${last}`, this.signal);
      this.streams = answer.streams;
      this.items.push(...answer.items);
      this.steps();
      for (const item of answer.items) if (this.shows(item)) this.append(item);
    } while (answer.more && this.items.length < MOST_ROWS);
    this.about(answer);
    return answer.followed && !(answer.over && answer.clients.length === 0); // false: nothing changes any more
  }

  about(answer) {
    const text = JSON.stringify({ ...answer, items: null });
    if (text === this.shown) return;
    this.shown = text;
    this.head.replaceChildren(
      answer.followed ? facts([
        ["Team", answer.team],
        ["State", badge(answer.status, answer.status === "completed" ? "good" : answer.over ? "bad" : "")],
        ["Brought by", answer.over ? null : answer.sources.join(", ") || "its state"],
        ["Kept", `${this.items.length} events, ${bytes(answer.bytes)}`],
        ["Not kept any more", answer.evicted ? `${answer.evicted} events` : null],
        ["Metadata", Array.isArray(answer.metadata) ? answer.metadata.join(", ") || "none" : h("code", {}, JSON.stringify(answer.metadata))],
      ]) : h("p", { class: "note" }, "Nobody reads this run here, so it is not followed. ",
        "What you see was made from its state at Hatchet: lifecycle events, and no chunks."),
      answer.followed && answer.state_only ? h("p", { class: "note bad" },
        "The team's subscriptions are used up: this run is served from its state, without chunks. Write `hatchet.tap`.") : "",
      answer.trouble ? h("p", { class: "note bad" }, answer.trouble) : "");
    this.readers.replaceChildren(!answer.followed ? "" : h("div", {}, h("h2", {}, "Who is connected"),
      answer.clients.length === 0 ? h("p", {}, "Nobody.") : table("Clients", ["Stream", "Client", "Since", "Frames", "Behind", "Gaps"],
        answer.clients.map((one) => [one.stream, one.client, spell(one.seconds), String(one.frames),
          one.paused ? badge(`${one.behind}, does not keep up`, "bad") : String(one.behind),
          Object.entries(one.gaps).map(([cause, times]) => `${cause}: ${times}`).join(", ") || "0"]))));
  }

  steps() {
    const known = new Set([...this.step.options].map((option) => option.value));
    for (const item of this.items) {
      if (item.step && !known.has(item.step)) {
        known.add(item.step);
        this.step.append(h("option", { value: item.step }, item.step));
      }
    }
  }

  shows(item) {
    if (this.step.value && item.step !== this.step.value) return false;
    const kind = this.kind.value;
    if (kind === "lifecycle") return item.kind === "event" && item.type !== "step_stream";
    if (kind === "chunks") return item.type === "step_stream";
    if (kind === "losses") return item.kind === "gap" || item.kind === "reset";
    if (kind === "unsent") return item.kind === "event" && this.streams.some((stream) => !item.rules?.[stream.name]?.sent);
    return true;
  }

  draw() {
    this.list.replaceChildren();
    for (const item of this.items) if (this.shows(item)) this.append(item);
    say(`${this.list.childElementCount} events`);
  }

  append(item) {
    const row = h("button", { type: "button", class: `event ${item.kind}`, "data-n": item.n, onclick: () => this.open(item.n) },
      h("span", { class: "at" }, clock(item.at)),
      h("span", { class: "what" }, title(item)),
      item.preview ? h("span", { class: "preview" }, item.preview) : null,
      h("span", { class: "decided" }, this.marks(item)));
    this.list.append(h("li", {}, row));
  }

  marks(item) {
    if (item.kind !== "event" || !item.rules) return "";
    return this.streams.map((stream) => {
      const decided = item.rules[stream.name];
      if (!decided) return h("span", {}, `✗ ${stream.name}: no rule`);
      return decided.sent ? h("span", { class: "sent" }, `✓ ${stream.name}: ${decided.rule}`)
        : h("span", { class: "failed" }, `✗ ${stream.name}: ${decided.rule} failed`);
    });
  }

  arrow(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const rows = [...this.list.querySelectorAll("button")];
    const next = rows[rows.indexOf(document.activeElement) + step];
    if (step === undefined || next === undefined) return;
    event.preventDefault();
    next.focus();
  }

  async open(number) {
    for (const row of this.list.querySelectorAll("[aria-current]")) row.removeAttribute("aria-current");
    this.list.querySelector(`[data-n="${number}"]`)?.setAttribute("aria-current", "true");
    history.replaceState(null, "", `#/runs/${path(this.team, this.id)}/${number}`);
    this.detail.hidden = false;
    try {
      const found = await get(`teams/${path(this.team)}/runs/${path(this.id)}/items/${number}`, this.signal);
      this.detail.replaceChildren(...this.explained(found));
      this.detail.focus({ preventScroll: matchMedia("(min-width: 900px)").matches });
      say(`${title(found)}: ${found.streams.map((one) => `${one.name} ${one.sent ? "sends it" : one.why}`).join(", ")}`);
    } catch (error) {
      if (error.name !== "AbortError") this.detail.replaceChildren(h("p", { class: "note bad", role: "alert" }, error.message));
    }
  }

  explained(found) {
    const payload = found.kind !== "event" ? null
      : found.payload === undefined ? h("p", {}, `Its payload has ${bytes(found.bytes)}. Payloads are hidden: `,
        h("code", {}, "console.payloads: shown"), " shows them.")
        : found.bytes === 0 ? h("p", {}, "It has no payload.")
          : h("pre", { tabindex: 0, role: "region", "aria-label": "Payload" }, found.payload + (found.cut ? " …" : ""));
    const tryIt = () => {
      keep({ team: this.team, event: found.given, hidden: found.payload === undefined });
      location.hash = "#/playground";
    };
    return [
      h("h3", {}, title(found)),
      facts([["Number", String(found.n)], ["Time", found.at], ["Recovered", found.recovered ? "yes: made from the run's state" : null],
        ["Cause", found.cause], ["Missed", found.kind === "gap" ? String(found.missed ?? "not known") : null]]),
      payload,
      ...found.streams.map((stream) => h("section", { class: "verdicts", "aria-label": `Stream ${stream.name}` },
        h("h4", {}, `Stream ${stream.name}: `, badge(stream.sent ? "sent" : "not sent", stream.sent ? "good" : "bad"), ` ${stream.sent ? "" : stream.why}`),
        stream.rules.length === 0 ? h("p", {}, stream.why) : rules(stream.rules),
        stream.frame ? h("pre", { tabindex: 0, role: "region", "aria-label": `Frame of ${stream.name}` }, stream.frame.trimEnd())
          : stream.sent && stream.bytes !== undefined ? h("p", {}, `Its data has ${bytes(stream.bytes)}.`) : null)),
      found.kind === "event" ? h("p", {}, h("button", { type: "button", onclick: tryIt }, "Open in the playground")) : null,
    ].filter((part) => part !== null);
  }
}

export function rules(verdicts) {
  return h("ol", { class: "rules" }, verdicts.map((one) => h("li", { class: one.outcome.replace(/ /g, "-") },
    h("code", {}, one.rule), " ", h("strong", {}, one.outcome), one.reasons.length > 0 ? `: ${one.reasons.join("; ")}` : "")));
}

function title(item) {
  if (item.kind === "gap") return `gap: ${item.missed ?? "some"} chunks${item.step ? ` of ${item.step}` : ""} missing (${item.cause})`;
  if (item.kind === "reset") return `reset: attempt ${item.attempt} of ${item.step} begins`;
  if (item.kind === "end") return `verified end: ${item.status}`;
  const attempt = item.attempt > 1 ? `, attempt ${item.attempt}` : "";
  const index = item.index === null || item.index === undefined ? "" : ` #${item.index}`;
  return `${item.type}${item.step ? ` ${item.step}` : ""}${index}${attempt}`;
}
