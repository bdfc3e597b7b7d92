import { onScopeDispose, shallowRef } from "vue";
import { followRun } from "hatchet-stream-proxy";

/** A run's snapshot as a ref; the run is followed while the component is there. */
export function useRun(url, options) {
  const run = followRun(url, options);
  const snapshot = shallowRef(run.getSnapshot());
  run.subscribe(() => (snapshot.value = run.getSnapshot()));
  onScopeDispose(() => run.close());
  return snapshot;
}
