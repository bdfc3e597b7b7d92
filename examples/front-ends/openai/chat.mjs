import OpenAI from "openai";

const site = process.env.SITE ?? "http://127.0.0.1:3000";
const question = process.argv[2] ?? "What is the answer?";

const client = new OpenAI({ baseURL: `${site}/api/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: question }];
const stream = await client.chat.completions.create({ model: "agent", messages, stream: true });
let finished = null;
for await (const { choices: [choice] } of stream) {
  process.stdout.write(choice.delta.content ?? "");
  finished = choice.finish_reason ?? finished;
}
process.stdout.write(`\n[finish_reason: ${finished}]\n`);
