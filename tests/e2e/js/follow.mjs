// Follows a stream with npm's eventsource: node follow.mjs URL [EVENT…]; prints the frames and the picture as JSON.
import { createRequire } from "node:module";
import { followRun } from "../../../clients/js/stream-proxy.js";

const require = createRequire(new URL("../../../.tools/", import.meta.url));
const { EventSource } = require("eventsource");

const [url, ...events] = process.argv.slice(2);
const frames = [];
followRun(url, {
  EventSource,
  events,
  onframe: (name, data, event) => frames.push([name, data, event.lastEventId]),
  onchange: ({ state, picture }) => {
    if (!["ended", "refused", "expired"].includes(state)) return;
    const steps = Object.fromEntries(
      [...picture.steps.values()].map(({ name, status, text, complete }) => [name, { status, text, complete }]),
    );
    console.log(JSON.stringify({ state, status: picture.status, steps, frames }));
  },
});
