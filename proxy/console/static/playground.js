// The playground: a draft of the YAML and events, and what comes of them. Nothing of it changes the proxy.

import { get, path, post } from "./api.js";
import { badge, h, say } from "./dom.js";
import { rules } from "./run.js";

const PAUSE = 350; // milliseconds without a key before the draft is tried
const DRAFT = `version: 1
streams:
  chat:
    rules:
      - name: tokens
        events: step_stream
        steps: answer
        data: {text: payload}
      - name: results
        events: step_completed
        data: {step: step, result: payload}
`;
const EVENTS = `[
  {"type": "step_stream", "step": "answer", "payload": "Hello"},
  {"type": "step_completed", "step": "answer", "payload": {"answer": "Hello"}}
]
`;

const draft = { yaml: DRAFT, events: EVENTS, stream: "" };

/** Takes an event of a run to the playground; its team's file comes with it. */
export function keep(event) {
  draft.from = event;
}

export async function playground(page, _, signal) {
  let note = null;
  if (draft.from) {
    const { team, event, hidden } = draft.from;
    draft.from = null;
    draft.yaml = (await get(`teams/${path(team)}/text`, signal)).yaml;
    draft.events = `${JSON.stringify(event, null, 2)}\n`;
    draft.stream = "";
    if (hidden) note = "Payloads are hidden, so the event came without its own: write one into it.";
  }
  new Playground(page, note, signal);
}

class Playground {
  constructor(page, note, signal) {
    this.signal = signal;
    this.yaml = this.editor("yaml", draft.yaml, 20);
    this.events = this.editor("given", draft.events, 8);
    this.stream = h("select", { id: "stream" });
    this.stream.addEventListener("change", () => this.later(0));
    this.problems = h("div", { "aria-live": "polite" });
    this.results = h("div", { "aria-live": "polite" });
    this.tests = h("div");
    page.append(h("h1", {}, "Playground"),
      h("p", {}, "Write rules and an event, and read the frames. Nothing here changes what is served. Variables and files are not read, and Hatchet is not called."),
      note ? h("p", { class: "note" }, note) : "",
      h("div", { class: "split even" },
        h("div", {}, h("label", { for: "yaml" }, "The YAML"), this.yaml, this.problems, this.tests),
        h("div", {}, h("label", { for: "given" }, "An event, or a list of events, as JSON"), this.events,
          h("p", {}, h("label", { for: "stream" }, "Stream "), this.stream), this.results)));
    this.later(0);
  }

  editor(id, text, rows) {
    const field = h("textarea", { id, rows, spellcheck: "false", autocapitalize: "off", autocomplete: "off", wrap: "off" });
    field.value = text;
    field.addEventListener("input", () => this.later(PAUSE));
    return field;
  }

  later(pause) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.attempt(), pause);
    draft.yaml = this.yaml.value;
    draft.events = this.events.value;
    draft.stream = this.stream.value;
  }

  async attempt() {
    if (this.signal.aborted) return;
    let events = [];
    let wrong = null;
    try {
      const given = JSON.parse(this.events.value || "[]");
      events = Array.isArray(given) ? given : [given];
    } catch (error) {
      wrong = `The events are not JSON: ${error.message}`;
    }
    const asked = (this.asked = {});
    try {
      const found = await post("playground", { yaml: this.yaml.value, stream: this.stream.value, events }, this.signal);
      if (asked === this.asked) this.show(found, events, wrong);
    } catch (error) {
      if (error.name !== "AbortError") this.results.replaceChildren(h("p", { class: "note bad", role: "alert" }, error.message));
    }
  }

  show(found, events, wrong) {
    this.problems.replaceChildren(this.checked(found.problems));
    if (found.streams.length > 0) {
      this.stream.replaceChildren(...found.streams.map((name) => h("option", { value: name, selected: name === found.stream }, name)));
    }
    this.tests.replaceChildren(...(found.tests.length === 0 ? [] : [h("h2", {}, "Its tests"), h("ul", { class: "tests" }, found.tests.map(test))]));
    const broken = found.problems.some((problem) => problem.severity === "error");
    const results = wrong ? [h("p", { class: "note bad" }, wrong)]
      : broken ? [h("p", { class: "note" }, "Frames are shown once the YAML has no errors.")]
        : found.events.map((event, number) => this.outcome(event, events[number], number));
    if (!wrong && !broken && events.length > 0 && found.events.every((event) => !event.problem)) {
      results.push(h("p", {}, h("button", { type: "button", onclick: () => this.save(found, events) }, "Save as test")));
    }
    this.results.replaceChildren(...results);
  }

  /** The lines with problems, each message under its line. */
  checked(problems) {
    if (problems.length === 0) return h("p", { class: "note good" }, "check finds no problems.");
    const lines = this.yaml.value.split("\n");
    return h("ol", { class: "problems" }, problems.map((problem) => h("li", { class: problem.severity },
      h("button", { type: "button", class: "plain line", onclick: () => this.jump(problem) }, `line ${problem.line}`),
      h("pre", {}, `${lines[problem.line - 1] ?? ""}\n${" ".repeat(Math.max(0, problem.column - 1))}^`),
      h("p", {}, badge(problem.severity, "bad"), ` ${problem.message}`, problem.hint ? h("br") : null, problem.hint ? h("em", {}, problem.hint) : null))));
  }

  jump(problem) {
    const lines = this.yaml.value.split("\n");
    const at = lines.slice(0, problem.line - 1).join("\n").length + (problem.line > 1 ? 1 : 0) + problem.column - 1;
    this.yaml.focus();
    this.yaml.setSelectionRange(at, at);
  }

  outcome(event, given, number) {
    if (event.problem) return h("section", { class: "card" }, h("p", { class: "note bad" }, `Event ${number + 1}: ${event.problem}`));
    return h("section", { class: "card", "aria-label": `Event ${number + 1}` },
      h("h3", {}, `${number + 1}. ${given.type}${given.step ? ` ${given.step}` : ""}`),
      rules(event.rules),
      event.frames ? h("pre", { tabindex: 0, role: "region", "aria-label": `Frames of event ${number + 1}` }, event.frames.trimEnd())
        : h("p", {}, event.silence ? capital(event.silence) : "Nothing is sent."));
  }

  /** Writes the events and what came of them into the YAML, as a test. */
  save(found, events) {
    const messages = found.events.flatMap((event) => event.messages);
    const single = events.length === 1;
    const expect = messages.length === 0 ? "nothing" : JSON.stringify(single ? messages[0] : messages);
    const entry = [`  - name: ${JSON.stringify(`${found.stream}: ${events.map((event) => event.type).join(", ").slice(0, 60)}`)}`,
      `    stream: ${JSON.stringify(found.stream)}`,
      `    given: ${JSON.stringify(single ? events[0] : events)}`,
      `    expect: ${expect}`, ""].join("\n");
    const text = this.yaml.value.replace(/\n*$/, "\n");
    this.yaml.value = /^tests:[ \t]*$/m.test(text) ? text.replace(/^tests:[ \t]*\n/m, `tests:\n${entry}`) : `${text}tests:\n${entry}`;
    say("Saved as a test at the end of the YAML.");
    this.later(0);
  }
}

function test(one) {
  return h("li", {}, badge(one.passed ? "passed" : "failed", one.passed ? "good" : "bad"), ` ${one.name}`,
    one.problem ? `: ${one.problem}` : "",
    one.diff.length > 0 ? h("pre", { tabindex: 0, role: "region", "aria-label": `Difference of ${one.name}` }, one.diff.join("\n")) : null);
}

const capital = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
