// Asks again and again while a page is open and in sight.

const PAUSE = 2000; // milliseconds between two answers

/** Calls `ask` now, and again after each answer, until `signal` ends. The first error is thrown; later ones
 *  are given to `trouble`, and the next answer calls `trouble(null)`. */
export async function poll(ask, trouble, signal) {
  await ask();
  let broken = false;
  const again = async () => {
    if (signal.aborted) return;
    if (!document.hidden) {
      try {
        if ((await ask()) === false) return;
        if (broken) trouble(null);
        broken = false;
      } catch (error) {
        if (signal.aborted || error.name === "AbortError") return;
        broken = true;
        trouble(error);
      }
    }
    setTimeout(again, PAUSE);
  };
  setTimeout(again, PAUSE);
}
