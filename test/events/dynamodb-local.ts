import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../local/part.ts";

/**
 * AWS's own DynamoDB Local, where someone has it: a Java program whose licence does not let it be
 * passed on. AXON_DYNAMODB_LOCAL names the folder with DynamoDBLocal.jar.
 */
const folder = process.env["AXON_DYNAMODB_LOCAL"];

const javaHome = process.env["JAVA_HOME"];
const java = javaHome === undefined ? "java" : join(javaHome, "bin", "java");

/** Why it cannot be used here; undefined where it can. */
export function whyNoDynamoDbLocal(): string | undefined {
  if (folder === undefined || folder === "") return "set AXON_DYNAMODB_LOCAL to run it";
  if (!existsSync(join(folder, "DynamoDBLocal.jar"))) return `no DynamoDBLocal.jar in ${folder}`;
  if (spawnSync(java, ["-version"]).error !== undefined) return "no java on PATH or in JAVA_HOME";
  return undefined;
}

/** Starts it in memory. Its data is gone when it stops. */
export async function startDynamoDbLocal(): Promise<{ url: string; stop(): Promise<void> }> {
  const port = await freePort();
  const server = spawn(
    java,
    [
      "-Djava.library.path=./DynamoDBLocal_lib",
      ...["-jar", "DynamoDBLocal.jar", "-inMemory", "-port", String(port)],
    ],
    { cwd: folder, stdio: "ignore" },
  );
  const exited = once(server, "exit");
  const deadline = Date.now() + 30_000;
  while (!(await accepts(port))) {
    if (server.exitCode !== null || Date.now() > deadline) {
      server.kill("SIGKILL");
      throw new Error(`DynamoDB Local in ${folder} does not answer on port ${port}.`);
    }
    await sleep(50);
  }
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      server.kill("SIGTERM");
      await exited;
    },
  };
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
