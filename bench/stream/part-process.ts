import { fork } from "node:child_process";

const localCredentials = { AWS_ACCESS_KEY_ID: "local", AWS_SECRET_ACCESS_KEY: "local" };

/** What a process of the bench answers when it is asked for its processor time. */
const usage = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/**
 * Runs a part of the bench in this process: its first message is its order, further ones are its own,
 * but for "usage", which is answered with the seconds of processor time that it has used.
 */
export function runPart<Order, Message>(
  start: (order: Order) => Promise<{
    ready: Record<string, unknown>;
    onMessage?: (message: Message) => unknown;
  }>,
): void {
  process.once("message", async (order) => {
    const { ready, onMessage } = await start(order as Order);
    process.on("message", async (message) => {
      if (message === "usage") process.send?.({ reply: usage() });
      else process.send?.({ reply: (await onMessage?.(message as Message)) ?? null });
    });
    process.send?.({ reply: ready });
  });
  process.on("disconnect", () => process.exit());
}

/** A part in a process of its own. */
export interface Part {
  ready: Record<string, unknown>;
  ask(message: unknown): Promise<unknown>;
  cpuSeconds(): Promise<number>;
  kill(signal?: NodeJS.Signals): void;
}

/** Starts bench/stream/<script> with its order. */
export async function startPart(script: string, order: object): Promise<Part> {
  const child = fork(new URL(script, import.meta.url), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    // What cannot be delivered is to show as late, for as long as memory allows.
    execArgv: ["--max-old-space-size=6144"],
    // The local gateway takes any credentials.
    env: { AWS_REGION: "local", ...localCredentials, ...process.env },
  });
  // Answers come in the order of the questions.
  const asking: PromiseWithResolvers<unknown>[] = [];
  child.on("message", (message) => asking.shift()?.resolve((message as { reply: unknown }).reply));
  child.on("exit", (code) => {
    for (const question of asking) question.reject(new Error(`${script} ended with ${code}`));
  });
  const ask = (message: object | string): Promise<unknown> => {
    const question = Promise.withResolvers<unknown>();
    asking.push(question);
    child.send(message);
    return question.promise;
  };
  const ready = (await ask(order)) as Record<string, unknown>;
  return {
    ready,
    ask: (message) => ask(message as object),
    cpuSeconds: async () => Number(await ask("usage")),
    kill: (signal = "SIGKILL") => void child.kill(signal),
  };
}
