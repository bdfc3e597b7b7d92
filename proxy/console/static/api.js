// Requests to the console's data. The token lives in this tab alone, and travels in one header.

const KEY = "stream-proxy-console-token";

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, options, signal) {
  let response;
  try {
    response = await fetch(`api/${path}`, {
      ...options,
      signal,
      headers: { authorization: `Bearer ${token.get() ?? ""}`, ...options.headers },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The proxy does not answer.");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, body.detail ?? `Status ${response.status}`);
  return body;
}

export const get = (path, signal) => ask(path, {}, signal);

export const post = (path, body, signal) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }, signal);

export const path = (...parts) => parts.map(encodeURIComponent).join("/");
