import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { EngineError } from "../engine/engine-error.ts";
import { type Server, ServerError } from "./server.ts";

export interface ServedModel {
  /** Its name at the server. */
  id: string;
  /** Tokens of prompt and answer together; undefined where the server does not tell. */
  contextLength: number | undefined;
}

const modelsSchema = z.looseObject({
  data: z.array(z.looseObject({ id: z.string(), max_model_len: z.int().min(1).nullish() })).min(1),
});

/**
 * The model of that name, or the first that the server lists: adapters stand after what they are for.
 * Throws ServerError, and EngineError "refused" where there is no such model.
 */
export async function servedModel(server: Server, name: string | undefined): Promise<ServedModel> {
  const listed = modelsSchema.safeParse(await server.getJson("/v1/models"));
  if (!listed.success) {
    throw new EngineError(
      "refused",
      `${server.url}/v1/models lists no models as OpenAI's API does.`,
    );
  }
  const { data } = listed.data;
  const found = name === undefined ? data[0] : data.find(({ id }) => id === name);
  if (found === undefined) {
    const ids = data.map(({ id }) => id).join(", ");
    throw new EngineError("refused", `${server.url} does not serve ${name}, but ${ids}.`);
  }
  return { id: found.id, contextLength: found.max_model_len ?? undefined };
}

const lookMs = 500;
/** How often it is said that we wait. */
const noteMs = 10_000;

/**
 * Waits until the server is there and has loaded its model, which takes minutes for a large one.
 * @throws EngineError "forming_failed" when it takes longer than `withinMs`, "refused" when the server
 *   does not let us in or does not serve the model.
 */
export async function awaitServedModel(
  server: Server,
  name: string | undefined,
  { withinMs, note }: { withinMs: number; note: (what: string) => void },
): Promise<ServedModel> {
  const startedAt = performance.now();
  let notedAt = Number.NEGATIVE_INFINITY;
  for (;;) {
    try {
      return await readyModel(server, name);
    } catch (error) {
      if (!(error instanceof ServerError) || isForGood(error)) throw refused(error);
      const now = performance.now();
      const waitedMs = now - startedAt;
      if (waitedMs >= withinMs) {
        const message = `The server was not ready within ${Math.round(withinMs / 1_000)} s: ${error.message}`;
        throw new EngineError("forming_failed", message, { cause: error });
      }
      if (now - notedAt >= noteMs) {
        note(`waits for the server, ${Math.round(waitedMs / 1_000)} s so far: ${error.message}`);
        notedAt = now;
      }
    }
    await sleep(lookMs);
  }
}

async function readyModel(server: Server, name: string | undefined): Promise<ServedModel> {
  try {
    await server.getText("/health", 5_000);
  } catch (error) {
    if (!(error instanceof ServerError && error.status === 404)) throw error;
  }
  return servedModel(server, name);
}

const isForGood = ({ status }: ServerError) =>
  status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 429;

function refused(error: unknown): unknown {
  if (!(error instanceof ServerError)) return error;
  return new EngineError("refused", error.message, { cause: error });
}
