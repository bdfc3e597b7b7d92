import OpenAI from "openai";

const site = process.env.SITE ?? "http://127.0.0.1:3000";
const question = process.argv[2] ?? "What is the answer?";

const started = await fetch(`${site}/api/chat`, { method: "POST", body: JSON.stringify({ question }) });
const { runId } = await started.json();
const client = new OpenAI({ baseURL: `${site}/streams`, apiKey: "none" });
const stream = await client.get(`/completion/${runId}`, { stream: true });
let finished = null;
for await (const { choices: [choice] } of stream) {
  process.stdout.write(choice.delta.content ?? "");
  finished = choice.finish_reason ?? finished;
}
process.stdout.write(`\n[finish_reason: ${finished}]\n`);
