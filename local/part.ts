import { createServer } from "node:net";

/** One running part of the stage: a server or process that others depend on. */
export interface RunningPart {
  /** Where it listens. */
  url: string;
  /** None when it runs elsewhere and is not ours to start or stop. */
  pid: number | undefined;
  /** Resolves, with the reason, when the part ends without having been told to. */
  died: Promise<string>;
  stop(): Promise<void>;
}

/** A part cannot start or go on, and what to do about it. Shown without a stack. */
export class StageError extends Error {
  override readonly name = "StageError";
  readonly code: StageErrorCode;
  constructor(code: StageErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
export type StageErrorCode =
  | "data_folder_unusable"
  | "data_in_use"
  | "engine_missing"
  | "invalid_option"
  | "model_missing"
  | "page_missing"
  | "part_failed"
  | "port_in_use"
  | "postgres_unreachable_folder"
  | "redis_missing";

/** A part that somebody else runs, named by the environment. */
export function externalPart(url: string): RunningPart {
  return { url, pid: undefined, died: new Promise(() => {}), stop: async () => {} };
}

/** A TCP port of this host that nothing listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("No TCP port was given.");
  return address.port;
}

/**
 * A port to listen on: the one that is asked for, or for 0 any that is free.
 * @throws StageError port_in_use
 */
export async function usablePort(host: string, port: number): Promise<number> {
  if (port === 0) return freePort();
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(error, port)));
    server.listen(port, host, resolve);
  });
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** What a failure to listen on a port means to the user. */
export function listenError(error: NodeJS.ErrnoException, port: number, variable = "PORT"): Error {
  if (error.code !== "EADDRINUSE") return error;
  const other = port === 65_535 ? port - 1 : port + 1;
  return new StageError(
    "port_in_use",
    `Port ${port} is in use. Stop what listens there, or choose another: ${variable}=${other} npm start`,
    error,
  );
}
