import * as z from "zod";
import type { Deps } from "../deps.ts";
import { isOutage } from "../failures.ts";
import { failureForLog } from "../request-log.ts";

/**
 * The models that there may be rollouts of: those of the deployment, and those that the log has had
 * rollouts of since. While PostgreSQL is away only the first are known.
 */
export async function managedModels({
  database,
  models,
  logger,
}: Pick<Deps, "database" | "models" | "logger">): Promise<string[]> {
  const deployed = models.all().map(({ model }) => model);
  try {
    const { rows } = await database.query("SELECT model FROM rollouts ORDER BY model");
    const known = z.array(z.object({ model: z.string() })).parse(rows);
    return [...new Set([...deployed, ...known.map(({ model }) => model)])];
  } catch (error) {
    if (!isOutage(error)) throw error;
    logger.warn("only the deployed models are known", { failure: failureForLog(error) });
    return [...new Set(deployed)];
  }
}
