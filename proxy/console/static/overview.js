// The process at a glance: teams, streams, what was lost in the last hour, and the newest runs.

import { get, path } from "./api.js";
import { badge, bytes, clock, facts, h, table } from "./dom.js";
import { poll } from "./poll.js";
import { sharedLog } from "./replicas.js";
import { finder, runRows } from "./runs.js";

const IDLE = ["off", "not asked yet"]; // neither good nor bad

export async function overview(page, _, signal) {
  const body = h("div");
  let last = "";
  const polling = poll(async () => {
    const [now, newest] = await Promise.all([get("overview", signal), get("runs", signal)]);
    const text = JSON.stringify([now, newest]);
    if (text === last) return;
    last = text;
    if (!body.contains(document.activeElement)) body.replaceChildren(...parts(now, newest));
  }, signal);
  page.append(h("h1", {}, "Overview"), finder(signal), polling.note, body);
  await polling.begin();
}

function parts(now, newest) {
  const lag = now.loop_lag.p99 === null ? "more than 10 s" : `${now.loop_lag.p99 * 1000} ms`;
  return [
    facts([
      ["State", badge(now.status, now.status === "ready" ? "good" : "bad")],
      ["Version", now.version],
      ["Up for", now.up],
      ["Clients", `${now.clients}, at most ${now.most_clients}`],
      ["Slow clients", String(now.slow_clients)],
      ["Loop lag, 99 %", `below ${lag}`],
      ["Payloads", now.payloads ? "shown" : "hidden"],
    ]),
    h("h2", {}, "Newest runs"),
    newest.runs.length === 0 ? h("p", {}, "No run is followed here. A run is followed while somebody reads it.")
      : runRows(newest.runs.slice(0, 10)),
    ...sharedLog(now.shared_log),
    now.shared_log === null ? "" : h("p", {}, h("a", { href: "#/replicas" }, "All replicas")),
    h("h2", {}, "Teams"),
    ...now.teams.map((team) => teamPart(team)),
    h("h2", {}, "Losses and refusals in the last hour"),
    now.last_hour.length === 0 ? h("p", {}, "None.") : table("By cause",
      ["Times", "What", "Why", "Team", "Stream"],
      now.last_hour.map((row) => [String(row.times), row.kind, row.label, row.team, row.stream])),
  ];
}

function teamPart(team) {
  const hatchet = team.upstream ?? {};
  const config = team.config ?? {};
  return h("section", { class: "card", "aria-label": `Team ${team.name}` },
    h("h3", {}, h("a", { href: `#/teams/${path(team.name)}` }, team.name)),
    facts([
      ["Hatchet", state(hatchet, ["reachable"])],
      ["History", team.history ? state(team.history, ["reachable"]) : null],
      ["Issuer", team.issuer && team.issuer.state !== "off" ? state(team.issuer, ["reachable"]) : null],
      ["File", state(config, ["current"])],
      ["Tap", team.tap === undefined ? null : team.tap ? "yes" : "no: each run has its own subscription"],
      ["Runs", String(team.runs)],
      ["Backlogs", bytes(team.backlog_bytes)],
      ["Runs without chunks", team.subscriptions?.state_only_runs ? badge(String(team.subscriptions.state_only_runs), "bad") : null],
    ]),
    (team.limits ?? []).length === 0 ? null : table(`Limits of ${team.name}`, ["Limit", "Used", "Refused", "Last"],
      team.limits.map((one) => [one.limit, one.of === undefined ? "" : `${one.used} of ${one.of}`,
        String(one.refused ?? 0), one.last_refused ? clock(one.last_refused) : ""])),
    team.streams.length === 0 ? h("p", {}, "It serves no stream.") : table(`Streams of ${team.name}`,
      ["Stream", "Path", "Clients", "Frames", "Bytes", "Gaps", "Rule errors"],
      team.streams.map((stream) => [stream.name, h("code", {}, stream.path), String(stream.clients),
        String(stream.frames), bytes(stream.bytes), counts(stream.gaps), counts(stream.rule_errors)])));
}

function state(part, fine) {
  if (!part.state) return null;
  const why = part.trouble ?? part.problem;
  return h("span", {}, badge(part.state, fine.includes(part.state) ? "good" : IDLE.includes(part.state) ? "" : "bad"), why ? ` ${why}` : "");
}

const counts = (found) => Object.entries(found).map(([name, times]) => `${name}: ${times}`).join(", ") || "0";
