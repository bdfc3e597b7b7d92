// Asks again and again while a page is open and in sight.

import { h } from "./dom.js";

const PAUSE = 2000; // milliseconds between two answers

/** Calls `ask` now, and again after each answer until it gives false or `signal` ends. The first error is
 *  thrown; later ones stand in the note that is returned at once, for the page, until the next answer. */
export function poll(ask, signal) {
  const note = h("p", { class: "note bad", role: "alert", hidden: true });
  const trouble = (text) => {
    note.hidden = text === "";
    note.textContent = text;
  };
  const again = async () => {
    if (signal.aborted) return;
    if (!document.hidden) {
      try {
        if ((await ask()) === false) return;
        trouble("");
      } catch (error) {
        if (signal.aborted || error.name === "AbortError") return;
        trouble(error.message);
      }
    }
    setTimeout(again, PAUSE);
  };
  const begin = async () => {
    await ask();
    setTimeout(again, PAUSE);
  };
  return { note, begin };
}
