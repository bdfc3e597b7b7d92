// The runs that are followed or kept here, and the field that finds one.

import { get, path, post } from "./api.js";
import { badge, h, say, table } from "./dom.js";
import { poll } from "./poll.js";

export async function runs(page, _, signal) {
  const body = h("div");
  let last = "";
  const polling = poll(async () => {
    const found = await get("runs", signal);
    const text = JSON.stringify(found);
    if (text === last || body.contains(document.activeElement)) return;
    last = text;
    body.replaceChildren(
      found.runs.length === 0 ? h("p", {}, "No run is followed here. A run is followed while somebody reads it.") : runRows(found.runs),
      found.more ? h("p", {}, "Only the newest are listed.") : "");
  }, signal);
  page.append(h("h1", {}, "Runs"), finder(signal), polling.note, body);
  await polling.begin();
}

export function runRows(list) {
  return table("Runs", ["Run", "Team", "State", "Clients", "Events", "Brought by"], list.map((run) => [
    h("a", { href: `#/runs/${path(run.team, run.run)}` }, h("code", {}, run.run)),
    run.team,
    badge(run.status, run.status === "completed" ? "good" : run.over ? "bad" : ""),
    String(run.clients),
    String(run.items),
    run.over ? "" : run.state_only ? badge("its state alone: no chunks", "bad") : [run.role, ...run.sources].filter((part) => part).join(", ") || "its state",
  ]));
}

/** A field for a run id, a stream's address, or KEY=VALUE of the run's metadata. */
export function finder(signal) {
  const field = h("input", { id: "find", type: "search", required: true, autocomplete: "off", spellcheck: "false",
    placeholder: "run id, stream address, or key=value" });
  const found = h("div", { class: "found" });
  const form = h("form", { class: "finder", role: "search" },
    h("label", { for: "find" }, "Find a run"), field, h("button", {}, "Find"), found);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const answer = await post("find", { text: field.value }, signal);
      const [first, ...others] = answer.found;
      if (first !== undefined && others.length === 0) {
        location.hash = `#/runs/${path(first.team, first.run)}`;
        return;
      }
      found.replaceChildren(first === undefined ? h("p", { role: "alert", class: "note" },
        "No team of this proxy has such a run. Hatchet shows a new run after about 0.1 s.")
        : h("ul", {}, answer.found.map((one) => h("li", {},
          h("a", { href: `#/runs/${path(one.team, one.run)}` }, `${one.team}: ${one.run}`)))));
      say(`${answer.found.length} found`);
    } catch (error) {
      if (error.name !== "AbortError") found.replaceChildren(h("p", { role: "alert", class: "note bad" }, error.message));
    }
  });
  return form;
}
