import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Where a command finds Axon, and with what credential. */
export interface Stage {
  webSocketUrl: string;
  apiUrl: string;
  credential: string;
}

/** A mistake of the caller's, or something only the caller can mend. Shown without a stack. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exitCode: number;
  constructor(
    message: string,
    { exitCode = 1, cause }: { exitCode?: number; cause?: unknown } = {},
  ) {
    super(message, { cause });
    this.exitCode = exitCode;
  }
}

const defaultAddress = "http://127.0.0.1:4173";

/**
 * The stage at `url`; without one AXON_URL, the stage that `npm start` runs here, or the default
 * address. The credential is AXON_KEY or the local stage's own.
 * @throws CommandError when no stage answers there.
 */
export async function findStage(url: string | undefined): Promise<Stage> {
  const address = url ?? process.env["AXON_URL"] ?? localAddress() ?? defaultAddress;
  if (!URL.canParse(address)) {
    throw new CommandError(`${address} is no address. It looks like ${defaultAddress}.`);
  }
  let config: Partial<Stage>;
  try {
    const response = await fetch(new URL("/config.json", address));
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    config = (await response.json()) as Partial<Stage>;
  } catch (cause) {
    throw new CommandError(
      `No Axon answers at ${address}. Start one with \`npm start\`, or name another with --url.`,
      { cause, exitCode: 3 },
    );
  }
  const credential = process.env["AXON_KEY"] ?? config.credential;
  if (credential === undefined || config.webSocketUrl === undefined) {
    throw new CommandError(`${address} gives out no key. Set AXON_KEY to yours.`);
  }
  const socket = new URL(config.webSocketUrl, address);
  socket.protocol = socket.protocol.replace("http", "ws");
  return {
    webSocketUrl: socket.href,
    apiUrl: new URL(config.apiUrl ?? "/api", address).href.replace(/\/$/, ""),
    credential,
  };
}

/** `GET path` of the stage's API. @throws CommandError with the server's own message. */
export async function getJson(stage: Stage, path: string): Promise<unknown> {
  const response = await fetch(stage.apiUrl + path, {
    headers: { authorization: `Bearer ${stage.credential}` },
  });
  const body: unknown = await response.json().catch(() => undefined);
  if (response.ok) return body;
  const message = (body as { message?: string } | undefined)?.message;
  throw new CommandError(message ?? `${path} answered ${response.status}.`);
}

/** The address in `.axon/stage.json`. */
const localAddress = (): string | undefined =>
  (localStageFile() as { url?: string } | undefined)?.url;

/** Where the local stage keeps its data. */
export const dataFolder = (): string =>
  process.env["AXON_DATA"] ?? join(import.meta.dirname, "..", ".axon");

/** What `npm start` has written of the stage that runs in the folder of the project. */
export function localStageFile(): unknown {
  try {
    return JSON.parse(readFileSync(join(dataFolder(), "stage.json"), "utf8"));
  } catch {
    return undefined;
  }
}
