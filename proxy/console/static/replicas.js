// The replicas that share a log: which are there, and which one leads which run.

import { get, path } from "./api.js";
import { badge, clock, facts, h, spell, table } from "./dom.js";
import { poll } from "./poll.js";

export async function replicas(page, _, signal) {
  const body = h("div");
  let last = "";
  const polling = poll(async () => {
    const found = await get("replicas", signal);
    const text = JSON.stringify(found);
    if (text === last || body.contains(document.activeElement)) return;
    last = text;
    body.replaceChildren(...(found.log === null ? alone() : parts(found)));
  }, signal);
  page.append(h("h1", {}, "Replicas"), polling.note, body);
  await polling.begin();
}

function alone() {
  return [h("p", {}, "This process keeps its runs in memory, and shares them with no replica: ",
    h("code", {}, "server.log"), " is ", h("code", {}, "memory"), ".")];
}

function parts(found) {
  return [
    found.silent === null ? h("p", { class: "note bad" }, "The log cannot be reached, so no other replica can be asked.")
      : found.silent > 0 ? h("p", { class: "note bad" }, `${found.silent} more did not answer in time.`) : "",
    table("Replicas, and how many runs each has", ["Replica", "Host", "Up for", "Leads", "Follows", "Without the log", "Stored within", "Behind", "Taken over", "Last time (UTC)"],
      found.replicas.map((one) => [
        h("span", {}, h("code", {}, one.replica), one.here ? " (this one)" : ""),
        one.host, spell(one.seconds), String(one.leading), String(one.following),
        one.local ? badge(String(one.local), "bad") : "0",
        milliseconds(one.stored_within), milliseconds(one.behind),
        String(one.take_overs), clock(one.last_take_over)])),
    h("h2", {}, "Which replica leads which run"),
    found.runs.length === 0 ? h("p", {}, "No run is active.") : table("Active runs", ["Run", "Team", "Led by"],
      found.runs.map((run) => [
        h("a", { href: `#/runs/${path(run.team, run.run)}` }, h("code", {}, run.run)), run.team, h("code", {}, run.replica)])),
    found.runs.length < found.replicas.reduce((sum, one) => sum + one.leading, 0)
      ? h("p", {}, "Only the first 100 of each replica are listed.") : "",
    ...sharedLog(found.log),
  ];
}

const milliseconds = (seconds) => (seconds === null ? "" : `${seconds * 1000} ms`);

/** This replica's part in the shared log; nothing where there is none. */
export function sharedLog(log) {
  if (log === null) return [];
  return [h("h2", {}, "This replica in the shared log"), facts([
    ["Log", h("span", {}, badge(log.state, log.state === "reachable" ? "good" : "bad"), log.trouble ? ` ${log.trouble}` : "")],
    ["Replica", h("code", {}, log.replica)],
    ["Leads", `${log.leading} runs`],
    ["Follows", `${log.following} runs`],
    ["Without the log", log.local ? badge(`${log.local} runs`, "bad") : "0 runs"],
    ["Written", `${log.appended} events`],
    ["Received", `${log.received} events`],
    ["Taken over", String(log.take_overs)],
    ["Refused", String(log.refused)],
  ])];
}
