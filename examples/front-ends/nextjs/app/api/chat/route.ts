// Starts a run for the newest question, over Hatchet's REST API; with Hatchet's TypeScript SDK it is one call.
const token = process.env.HATCHET_CLIENT_TOKEN!;
const claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
const trigger = `${claims.server_url}/api/v1/stable/tenants/${claims.sub}/workflow-runs/trigger`;

export async function POST(request: Request) {
  const { messages } = await request.json();
  const question = messages.at(-1).parts.at(-1).text;
  const response = await fetch(trigger, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ workflowName: "agent", input: { question }, additionalMetadata: { stream: "on" } }),
  });
  const { run } = await response.json();
  return Response.json({ runId: run.metadata.id });
}
