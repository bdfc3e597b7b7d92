import type { ChatTransport, UIMessage, UIMessageChunk } from "ai";

/** One part that a rule sends, as `stream-proxy types` writes it. */
export interface Part {
  readonly as: string;
  readonly data: unknown;
}

/** The message of a stream with `format: ai-sdk`, for `useChat`: its metadata and its data parts are typed. */
export type ChatMessage<S extends Part> = UIMessage<
  Extract<S, { readonly as: "metadata" }>["data"],
  { [P in Extract<S, { readonly as: `data-${string}` }> as P["as"] extends `data-${infer Name}` ? Name : never]: P["data"] }
>;

/** What `useChat` passes on for one message. */
export type SendRequest<UI_MESSAGE extends UIMessage = UIMessage> = Parameters<ChatTransport<UI_MESSAGE>["sendMessages"]>[0];

type Value<T> = T | (() => T | Promise<T>);

export interface TransportOptions<UI_MESSAGE extends UIMessage = UIMessage> {
  /** The URL of a run's stream (`format: ai-sdk`). It is called for each connection, so it may add a new ticket. */
  stream: (runId: string) => string | Promise<string>;
  /** The application's own route that starts a run: POST, answers `{"runId": …}`. By default `/api/chat`. */
  api?: string | undefined;
  /** Starts a run in another way, and gives its id. */
  start?: ((request: SendRequest<UI_MESSAGE>) => string | Promise<string>) | undefined;
  /** After a reload: the id of the chat's run, null if there is none. By default from `storage`. */
  resume?: ((chatId: string) => string | null | Promise<string | null>) | undefined;
  /** Where the runs of chats are remembered until they end; by default `sessionStorage`, null for nowhere. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | null | undefined;
  /** More headers and fields for `api`. */
  headers?: Value<HeadersInit> | undefined;
  body?: Value<object> | undefined;
  /** For both requests. */
  credentials?: RequestCredentials | undefined;
  fetch?: typeof globalThis.fetch | undefined;
}

/** A transport for `useChat`: reconnects with its cursor until the verified end, and resumes after a reload. */
export class HatchetChatTransport<UI_MESSAGE extends UIMessage = UIMessage> implements ChatTransport<UI_MESSAGE> {
  constructor(options: TransportOptions<UI_MESSAGE>);
  readonly resumeStreamIsReplay: true;
  sendMessages: (options: SendRequest<UI_MESSAGE>) => Promise<ReadableStream<UIMessageChunk>>;
  reconnectToStream: (
    options: { chatId: string; abortSignal?: AbortSignal } & Pick<SendRequest<UI_MESSAGE>, "headers" | "body" | "metadata">,
  ) => Promise<ReadableStream<UIMessageChunk> | null>;
}

/** The frames of an event stream, without those that have a name. */
export function frames(body: ReadableStream<Uint8Array>): AsyncGenerator<{ id?: string; data?: string; retry?: number }>;
