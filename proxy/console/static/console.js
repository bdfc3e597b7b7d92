// The console's shell: signing in, the address, and which page is shown.

import { Refused, get, token } from "./api.js";
import { h, say } from "./dom.js";
import { log } from "./log.js";
import { overview } from "./overview.js";
import { playground } from "./playground.js";
import { replicas } from "./replicas.js";
import { run } from "./run.js";
import { runs } from "./runs.js";
import { team } from "./team.js";

// Each page is called with an element, its arguments and a signal that ends when the page is left.
const PAGES = [
  [/^#?\/?$/, "Overview", overview],
  [/^#\/runs$/, "Runs", runs],
  [/^#\/runs\/([^/]+)\/([^/]+)(?:\/(\d+))?$/, "Run", run],
  [/^#\/teams\/([^/]+)$/, "Team", team],
  [/^#\/playground$/, "Playground", playground],
  [/^#\/replicas$/, "Replicas", replicas],
  [/^#\/log$/, "Log", log],
];

const main = document.getElementById("main");
const nav = document.querySelector("nav");
let leaving = new AbortController();

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  if (token.get() === null) return signIn();
  const address = location.hash;
  if (address === "#main") return undefined;
  for (const [pattern, title, page] of PAGES) {
    const match = pattern.exec(address);
    if (match === null) continue;
    nav.hidden = false;
    for (const link of nav.querySelectorAll("a")) {
      const here = link.hash === "#/" ? title === "Overview" || title === "Team" : address.startsWith(link.hash);
      if (here) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${title} · stream-proxy console`;
    const element = h("div", { class: "page" });
    main.replaceChildren(element);
    try {
      await page(element, match.slice(1).map((part) => part && decodeURIComponent(part)), signal);
    } catch (error) {
      failed(element, error, signal);
    }
    return undefined;
  }
  main.replaceChildren(h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "To the overview")));
  return undefined;
}

function failed(element, error, signal) {
  if (signal.aborted || error.name === "AbortError") return;
  if (error instanceof Refused && error.status === 401) {
    token.forget();
    signIn(error.message);
    return;
  }
  element.replaceChildren(h("h1", {}, "This cannot be shown"), h("p", { role: "alert", class: "note bad" }, error.message),
    h("p", {}, h("button", { type: "button", onclick: show }, "Try again")));
}

/** Asks for the token; `problem` is why the last one was no good. */
function signIn(problem) {
  nav.hidden = true;
  document.title = "Sign in · stream-proxy console";
  const field = h("input", {
    id: "token", type: "password", required: true, autocomplete: "current-password", spellcheck: "false",
    "aria-describedby": problem ? "problem" : null,
  });
  const form = h("form", { class: "sign-in" },
    h("h1", {}, "Sign in"),
    h("p", {}, "Type the console's token: ", h("code", {}, "server.console.token"), " in the proxy's YAML."),
    h("label", { for: "token" }, "Token"), field,
    problem ? h("p", { id: "problem", role: "alert", class: "note bad" }, `${capital(problem)}.`) : null,
    h("button", { class: "primary" }, "Open the console"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    token.set(field.value.trim());
    try {
      await get("overview");
      say("Signed in.");
      await show();
    } catch (error) {
      token.forget();
      signIn(error.message);
    }
  });
  main.replaceChildren(form);
  field.focus();
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

document.getElementById("leave").addEventListener("click", () => {
  token.forget();
  location.hash = "#/";
  show();
});
addEventListener("hashchange", show);
show();
