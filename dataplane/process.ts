import type { Logger } from "@aws-lambda-powertools/logger";
import { processLogger } from "./process-logger.ts";

/**
 * How a long-lived process of the data plane begins and ends. It is ready when it says so to its
 * parent over IPC; SIGTERM drains it; a second signal, or the death of its parent, ends it at once.
 */
export interface LongLivedProcess {
  /** @returns what to do on SIGTERM, and what to tell the parent. */
  start(logger: Logger): Promise<{ ready: Record<string, unknown>; drain: () => Promise<void> }>;
  serviceName: string;
  logLevel: () => "DEBUG" | "INFO" | "WARN" | "ERROR";
  /** What `--help` prints. */
  help: string;
}

/** Runs the process until it is told to end; exits with 0 after a drain and with 1 on a failure. */
export async function runProcess(definition: LongLivedProcess): Promise<void> {
  if (process.argv.includes("--help")) {
    process.stdout.write(`${definition.help.trim()}\n`);
    return;
  }
  const logger = processLogger(definition.serviceName);
  const fatal = (error: unknown): never => {
    logger.critical("ends after a failure", { error: error as Error });
    process.exit(1);
  };
  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", fatal);
  // With a parent gone there is nobody left to restart us, and nobody to serve.
  process.on("disconnect", () => process.exit(1));
  try {
    logger.setLogLevel(definition.logLevel());
    const { ready, drain } = await definition.start(logger);
    let draining = false;
    const end = () => {
      if (draining) process.exit(1);
      draining = true;
      logger.info("drains");
      drain().then(() => process.exit(0), fatal);
    };
    process.on("SIGTERM", end);
    process.on("SIGINT", end);
    logger.info("ready", ready);
    process.send?.({ type: "ready", ...ready });
  } catch (error) {
    fatal(error);
  }
}
