// Starts a run for the newest question, over Hatchet's REST API; with Hatchet's TypeScript SDK it is one call.
export async function POST(request: Request) {
  const input = { question: (await request.json()).messages.at(-1).parts.at(-1).text };
  const token = process.env.HATCHET_CLIENT_TOKEN!; // read for each request: a build has no token
  const { server_url, sub } = JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
  const response = await fetch(`${server_url}/api/v1/stable/tenants/${sub}/workflow-runs/trigger`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ workflowName: "agent", input, additionalMetadata: { stream: "on" } }),
  });
  return Response.json({ runId: (await response.json()).run.metadata.id });
}
