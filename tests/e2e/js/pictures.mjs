// Plays frames through the JavaScript picture: a JSON array of [name, data] per line in, the picture per line out.
import { createInterface } from "node:readline";
import { RunPicture } from "../../../clients/js/stream-proxy.js";

for await (const line of createInterface({ input: process.stdin })) {
  const picture = new RunPicture();
  for (const [name, data] of JSON.parse(line)) picture.frame(name, data);
  const steps = [...picture.steps.values()].map((step) => ({
    name: step.name,
    status: step.status,
    attempt: step.attempt,
    text: step.text,
    complete: step.complete,
    payload: step.payload ?? null,
  }));
  const { status, ended, complete, payload, gaps } = picture;
  console.log(JSON.stringify({ status, ended, complete, payload: payload ?? null, gaps: gaps.length, steps }));
}
