// A team's configuration: what is served, and what its files say now.

import { get, path } from "./api.js";
import { h, table } from "./dom.js";

export async function team(page, [name], signal) {
  const found = await get(`teams/${path(name)}/config`, signal);
  page.append(h("h1", {}, `Team ${name}`), h("h2", {}, "The newest version of its files"));
  if (found.gone) page.append(h("p", { class: "note bad" }, "The files do not have this team any more."));
  else if (found.problems.length > 0) {
    page.append(h("p", { class: "note bad" }, found.live === null
      ? "It cannot be served, and there is no earlier valid version." : "It cannot be served. The version before it is served."),
      table("Problems", ["Place", "What is wrong", "What to do"], found.problems.map((one) => [
        h("code", {}, `${one.file.split("/").pop()}:${one.line}:${one.column}`), one.message, one.hint])));
  } else if (found.differs.length > 0) {
    page.append(h("p", { class: "note bad" }, "It differs from what is served:"),
      table("Differences", ["Setting", "Served", "Newest"], found.differs.map((one) => [
        h("code", {}, one.key), h("code", {}, JSON.stringify(one.live)), h("code", {}, JSON.stringify(one.newest))])));
  } else page.append(h("p", {}, "It is what is served."));
  if (found.live === null) {
    page.append(h("h2", {}, "What is served"), h("p", {}, "No stream of this team."));
    return;
  }
  page.append(h("h2", {}, "What is served"),
    h("p", {}, "With every default, as the files would have it. Secrets are redacted. ",
      h("a", { href: "#/playground" }, "Try a change in the playground"), "."),
    ...Object.entries(found.written).map(([key, text]) => part(key, text)));
}

function part(key, text) {
  if (text.trimEnd().split("\n").length === 1) return h("p", {}, h("code", {}, text.trimEnd()));
  return h("details", { open: key === "streams" }, h("summary", {}, h("code", {}, key)),
    h("pre", { tabindex: 0, role: "region", "aria-label": key }, text.trimEnd()));
}
