/**
 * A run as React state: `useRun(url, options)` follows it while the component is mounted.
 *
 *     import { useRun } from "hatchet-stream-proxy/react";
 *
 *     const run = useRun(`/streams/live/${runId}`, { events: ["token", "step"] });
 *     return <p>{run.steps.answer?.text}</p>;
 */
import { useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { RunFollower } from "./stream-proxy.js";

/** The state before a run is known, and the state in server rendering: one object, as React requires. */
const INITIAL = new RunFollower("").getSnapshot();

/**
 * The run's snapshot; the component is rendered at most once per animation frame.
 *
 * @param {string | (() => Promise<string | null>) | null | undefined} url the stream's URL, a function that makes one
 *   (for example with a new ticket), or nothing while the run is not known. Another string follows another run. A
 *   function may be a new one in each rendering
 * @param {import("./react.js").UseRunOptions} [options] as those of `followRun`. `key`: another key follows another run;
 *   needed with a function
 */
export function useRun(url, options = {}) {
  const latest = useRef({ url, options });
  useEffect(() => {
    latest.current = { url, options };
  });
  const key = options.key ?? (typeof url === "function" ? "" : url);
  const none = url === null || url === undefined || url === "";
  const store = useMemo(() => (none ? NO_RUN : storeOf(latest, url, options)), [key, none]);
  return useSyncExternalStore(store.subscribe, store.getSnapshot, () => INITIAL);
}

const NO_RUN = { subscribe: () => () => {}, getSnapshot: () => INITIAL };

/** Connects with the first subscriber and disconnects after the last one; nothing happens while React renders. */
function storeOf(latest, url, options) {
  const run = new RunFollower(typeof url === "function" ? () => latest.current.url() : url, {
    ...options,
    onchange: (follower) => latest.current.options.onchange?.(follower),
    onframe: (name, data, event) => latest.current.options.onframe?.(name, data, event),
  });
  let subscribers = 0;
  return {
    getSnapshot: run.getSnapshot,
    subscribe(listener) {
      const leave = run.subscribe(listener);
      subscribers += 1;
      run.open();
      return () => {
        leave();
        subscribers -= 1;
        // StrictMode unsubscribes and subscribes again at once: that must not cost a connection
        setTimeout(() => subscribers === 0 && run.pause(), 0);
      };
    },
  };
}
