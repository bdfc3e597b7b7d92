// The majors of npm's `ai` that scripts/tools installs, by the names of tests/e2e/js/frontends/package.json.
import { readFileSync } from "node:fs";

const modules = new URL("../../../.tools/frontends/node_modules/", import.meta.url);

export async function load(name) {
  const { exports } = JSON.parse(readFileSync(new URL(`${name}/package.json`, modules)));
  const main = exports["."];
  return await import(new URL(`${name}/${main.import?.default ?? main.import ?? main.default}`, modules));
}
