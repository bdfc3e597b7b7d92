/** A message of a stream: the event name that its rule gives it ("message" for none) and its data. */
export interface Message<Event extends string = string, Data = any> {
  readonly event: Event;
  readonly data: Data;
}

/** What a generic `S` stands for: one stream of the file that `stream-proxy types` writes. */
export type AnyStream = Message;

/** A stream's own messages, without the proxy's control frames. */
export type MessageOf<S extends AnyStream> = Exclude<S, { readonly event: `stream.${string}` }>;

/** The event names that a stream's rules use. */
export type EventOf<S extends AnyStream> = MessageOf<S>["event"];

/** The steps by their names: those that the stream's messages name, and any other where a message may be of any step. */
export type Steps<S extends AnyStream> = {
  readonly [Name in LiteralStep<MessageOf<S>["data"]>]?: StepSnapshot<PayloadOf<S, Name>, Name>;
} & { readonly [Name in WideStep<MessageOf<S>["data"]>]?: StepSnapshot };

type LiteralStep<Data> = Data extends { readonly step: infer Name } ? (string extends Name ? never : Extract<Name, string>) : never;
type WideStep<Data> = Data extends { readonly step: infer Name } ? (string extends Name ? string : never) : never;

/** What a stream sends as the `payload` of a step's end, where its messages carry `step` and `payload`. */
export type PayloadOf<S extends AnyStream, Name extends string> = 0 extends 1 & MessageOf<S>["data"]
  ? any // nothing is known of the stream
  : Payloads<MessageOf<S>, Name> extends infer P
    ? [P] extends [never]
      ? any
      : P
    : never;

type Payloads<M, Name extends string> = M extends {
  readonly data: { readonly type: Exclude<StepEventType, "step_stream">; readonly step: infer Step; readonly payload: infer P };
}
  ? Name extends Step
    ? P
    : never
  : never;

export type StepEventType =
  | "step_started"
  | "step_stream"
  | "step_completed"
  | "step_skipped"
  | "step_retrying"
  | "step_failed"
  | "step_cancelled";

export type StepStatus = "started" | "streaming" | "retrying" | "completed" | "skipped" | "failed" | "cancelled";
export type RunStatus = "running" | "completed" | "failed" | "cancelled";
export type State = "connecting" | "open" | "waiting" | "reconnecting" | "ended" | "expired" | "refused" | "closed";
export type GapCause = "joined_late" | "upstream" | "backlog" | "slow_client" | "unknown_cursor" | "too_large";

/** Chunks that cannot be given any more. `step` is null where the gap concerns the whole stream. */
export interface Gap {
  readonly cause: GapCause;
  readonly step: string | null;
  readonly attempt: number | null;
  readonly missed: number | null;
}

/** One step in a snapshot. */
export interface StepSnapshot<Payload = any, Name extends string = string> {
  readonly name: Name;
  readonly status: StepStatus;
  /** 1 for the first attempt. */
  readonly attempt: number;
  /** What the current attempt has streamed so far. */
  readonly text: string;
  /** False: something of `text` is missing, or may be. */
  readonly complete: boolean;
  /** The payload of the step's end, if the rules forward it. */
  readonly payload: Payload | undefined;
}

/** A run as one immutable value. */
export interface RunSnapshot<S extends AnyStream = AnyStream> {
  readonly state: State;
  /** Why it waits or reconnects: `hatchet`, `limit`, `config`, `url`, `drain`, `expired`. */
  readonly cause: string | null;
  /** `running`, or the verified end. */
  readonly status: RunStatus;
  readonly steps: Steps<S>;
  /** The stream's messages in order, at most as many as the option `messages` says; chunks of failed attempts are taken out. */
  readonly messages: readonly MessageOf<S>[];
  readonly gaps: readonly Gap[];
  /** Whether nothing is missing from any step's text. */
  readonly complete: boolean;
  /** The payload of the run's end, if a rule forwards `run_*` events. */
  readonly payload: any;
}

/** What a frame says, in the words of the picture. */
export interface PictureEvent {
  type: string;
  step?: string | null;
  attempt?: number | null;
  index?: number | null;
  /** Where a rule with `merge` made several chunks one frame: the index of the first; `index` is that of the last. */
  first_index?: number | null;
  payload?: any;
  recovered?: boolean;
}

/** The names of the proxy's own frames. */
export const CONTROL_FRAMES: readonly string[];

/** Reads the default data and the fields `attempt`, `index`, `recovered` and `text`; null: the picture ignores the frame. */
export function readFrame(name: string, data: any): PictureEvent | null;

/** One step, as far as the stream has reported it; it changes with each frame. */
export class StepPicture {
  readonly name: string;
  readonly status: StepStatus;
  readonly attempt: number;
  readonly payload: any;
  readonly text: string;
  readonly complete: boolean;
  readonly over: boolean;
}

/** Everything that a stream has reported about a run. Pure: frames go in, no I/O. */
export class RunPicture {
  constructor(options?: { read?: typeof readFrame | undefined });
  readonly steps: Map<string, StepPicture>;
  readonly status: RunStatus;
  readonly payload: any;
  readonly gaps: Gap[];
  readonly ended: boolean;
  readonly complete: boolean;
  frame(name: string, data: any): void;
}

export interface FollowOptions<S extends AnyStream = AnyStream> {
  /** The event names that the stream's rules use, beside unnamed messages. */
  events?: readonly EventOf<S>[] | undefined;
  /** Called after each frame and each change of `state`. `subscribe` is called at most once per animation frame. */
  onchange?: ((run: RunFollower<S>) => void) | undefined;
  /** Called with each frame as it arrived, control frames too. */
  onframe?: ((name: string, data: any, event: MessageEvent) => void) | undefined;
  /** A picture to go on with, and the cursor to go on from. */
  picture?: RunPicture | undefined;
  lastEventId?: string | undefined;
  /** How many messages a snapshot has at most, the newest ones; 1000 by default. */
  messages?: number | undefined;
  /** Cookies for another origin. */
  withCredentials?: boolean | undefined;
  /** Another implementation, where there is none: for example that of npm's `eventsource`. */
  EventSource?: any;
}

/** A stream's URL; or a function that makes one with new credentials, null where there are none any more. */
export type StreamUrl = string | (() => Promise<string | null>);

/** Follow a run with an EventSource until its verified end. */
export function followRun<S extends AnyStream = AnyStream>(url: StreamUrl, options?: FollowOptions<S>): RunFollower<S>;

export class RunFollower<S extends AnyStream = AnyStream> {
  constructor(url: StreamUrl, options?: FollowOptions<S>);
  readonly state: State;
  readonly cause: string | null;
  readonly picture: RunPicture;
  /** The cursor: the id of the last frame. */
  readonly lastEventId: string;
  /** Connect, from the cursor if there is one. `followRun` has done that. */
  open(): void;
  /** Disconnect; `open` goes on from here. */
  pause(): void;
  /** Stop; neither `onchange` nor `onframe` is called afterwards. */
  close(): void;
  /** Call `listener` after changes, at most once per animation frame; gives the function that ends that. */
  subscribe(listener: () => void): () => void;
  /** The run as one immutable value; the same object until a change is announced. */
  getSnapshot(): RunSnapshot<S>;
}
