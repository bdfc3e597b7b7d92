// What the page says about gaps and about the state of a connection.

const CAUSES = {
  joined_late: "streamed before this reader connected, and not kept by the proxy",
  upstream: "Hatchet lost chunks, or the connection to Hatchet broke",
  backlog: "the chunks had fallen out of the stream's backlog when this reader connected",
  slow_client: "this reader was too slow, and the chunks fell out of the stream's backlog",
  unknown_cursor: "the proxy does not know this reader's cursor, so the stream began again",
  too_large: "a message was larger than the limit",
};

/** @param {{cause: string, step: string|null, attempt: number|null, missed: number|null}} gap */
export function gapNotice({ cause, step, attempt, missed }) {
  const why = CAUSES[cause] ?? cause;
  if (step === null) return `Gap: ${why}. Text of any step may be missing.`;
  const where = attempt === null ? "" : ` in attempt ${attempt}`;
  const what = missed === null ? "chunks may be missing" : missed === 1 ? "1 chunk is missing" : `${missed} chunks are missing`;
  return `Gap: ${what}${where} (${why}).`;
}

/** What a reader says about its connection beside the name of the state; null: nothing. */
export function stateNotice(state, cause) {
  if (state === "refused") return "The proxy refused this stream. The run or the stream does not exist; start a new run.";
  if (state === "expired") return "The credentials have expired.";
  if (state === "waiting" && cause === "hatchet") return "Hatchet cannot be reached. This reader tries again by itself.";
  if (state === "waiting") return `The proxy has asked this reader to reconnect later (${cause}). It tries again by itself.`;
  if (state === "reconnecting") return "The connection is lost. This reader reconnects by itself.";
  return null;
}
