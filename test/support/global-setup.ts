import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startAwsEmulators } from "../../local/aws-emulators.ts";
import { startPostgres } from "../../local/postgres.ts";
import { startRedis } from "../../local/redis.ts";
import type { Parts } from "./parts.ts";

declare module "vitest" {
  interface ProvidedContext {
    parts: Parts;
  }
}

/** What has to be undone, the latest first. */
const undo: (() => Promise<void> | void)[] = [];

/** One of each real part for the whole run; tests take databases, tables and queues of their own. */
export async function setup(project: TestProject): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "axon-test-"));
  undo.push(() => rmSync(folder, { recursive: true, force: true }));
  // PostgreSQL may have to run as another user, who must be able to pass.
  chmodSync(folder, 0o755);
  try {
    const [redis, postgres, emulators] = await Promise.all([
      stoppable(
        startRedis({
          dataDir: join(folder, "redis"),
          logFile: join(folder, "redis.log"),
          persistent: false,
          databases: 4_096,
        }),
      ),
      stoppable(
        startPostgres({
          dataDir: join(folder, "postgres"),
          logFile: join(folder, "postgres.log"),
          durable: false,
          maxConnections: 200,
        }),
      ),
      stoppable(startAwsEmulators({})),
    ]);
    project.provide("parts", {
      redisUrl: redis.url,
      databaseUrl: postgres.url,
      dynamoDbEndpoint: emulators.dynamoDb.url,
      sqsEndpoint: emulators.sqs.url,
    });
  } catch (error) {
    await teardown();
    throw error;
  }
}

async function stoppable<Part extends { stop(): Promise<void> }>(
  starting: Promise<Part>,
): Promise<Part> {
  // What is registered before it has started is also stopped when another part fails meanwhile.
  undo.push(async () => {
    const [started] = await Promise.allSettled([starting]);
    if (started.status === "fulfilled") await started.value.stop();
  });
  return starting;
}

export async function teardown(): Promise<void> {
  for (const step of undo.splice(0).reverse()) await step();
}
