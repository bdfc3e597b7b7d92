import type { AnyStream, FollowOptions, RunSnapshot, StreamUrl } from "./stream-proxy.js";

export interface UseRunOptions<S extends AnyStream = AnyStream> extends FollowOptions<S> {
  /** Another key follows another run; needed with a function as `url`. By default the URL. */
  key?: string | number | undefined;
}

/**
 * The run's snapshot; follows the run while the component is mounted. With `null` or `undefined`, and in server
 * rendering, the initial state: `connecting`, without steps.
 */
export function useRun<S extends AnyStream = AnyStream>(
  url: StreamUrl | null | undefined,
  options?: UseRunOptions<S>,
): RunSnapshot<S>;
