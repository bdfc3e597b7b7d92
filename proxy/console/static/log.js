// The newest log lines of this process, newest first; lines about a run lead to it.

import { get, path } from "./api.js";
import { badge, clock, h, table } from "./dom.js";
import { poll } from "./poll.js";

export async function log(page, _, signal) {
  const body = h("div");
  const only = h("select", { id: "only" }, h("option", { value: "" }, "All lines"),
    h("option", { value: "warning" }, "Warnings and errors"), h("option", { value: "refused" }, "Refusals"),
    h("option", { value: "gaps" }, "Streams with gaps"));
  let lines = [];
  const draw = () => {
    const chosen = lines.filter((line) => wanted(line, only.value)).reverse();
    body.replaceChildren(chosen.length === 0 ? h("p", {}, "There is no such line.") : table("Log lines",
      ["Time (UTC)", "Level", "Line", "About"], chosen.map((line) => [
        clock(line.at), badge(line.level, line.level === "error" || line.level === "warning" ? "bad" : ""), line.event, about(line)])));
  };
  only.addEventListener("change", draw);
  const polling = poll(async () => {
    const found = await get("log", signal);
    const changed = JSON.stringify(found.lines) !== JSON.stringify(lines);
    lines = found.lines;
    if (changed && !body.contains(document.activeElement)) draw();
    if (body.childElementCount === 0) draw();
  }, signal);
  page.append(h("h1", {}, "Log"), h("p", {}, "The newest 500 lines of this process. The log itself has all of them."),
    h("p", {}, h("label", { for: "only" }, "Show "), only), polling.note, body);
  await polling.begin();
}

function wanted(line, only) {
  if (only === "warning") return line.level === "warning" || line.level === "error";
  if (only === "refused") return line.event === "refused";
  if (only === "gaps") return (line.fields.gaps ?? 0) > 0;
  return true;
}

function about(line) {
  const { team, run, ...others } = line.fields;
  const rest = Object.entries(others).map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join("; ") : value}`).join(", ");
  const link = run && team ? h("a", { href: `#/runs/${path(team, run)}` }, h("code", {}, run)) : null;
  return h("span", {}, team ? `${team} ` : "", link, link ? " " : "", rest);
}
