import { HttpAgent } from "@ag-ui/client";

const site = process.env.SITE ?? "http://127.0.0.1:3000";
const question = process.argv[2] ?? "What is the answer?";

const agent = new HttpAgent({ url: `${site}/api/agent`, threadId: "chat" });
agent.addMessage({ id: "1", role: "user", content: question });
await agent.runAgent({}, {
  onTextMessageContentEvent: ({ event }) => void process.stdout.write(event.delta),
  onCustomEvent: ({ event: { name, value }, messages }) => {
    if (name !== "stream.reset") return;
    process.stdout.write("\n[the attempt failed, its text is removed]\n");
    return { messages: messages.filter(({ id }) => !value.messageIds.includes(id)) };
  },
});
for (const { role, content } of agent.messages) process.stdout.write(`\n${role}: ${content}`);
process.stdout.write("\n");
