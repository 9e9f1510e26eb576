import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Turn } from "../../client/turn.ts";
import { eventually } from "../support/eventually.ts";
import { eventsOf, read, recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  isRunning,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

/** A model's server that a stage uses, and that can be killed. */
interface StageServer {
  env: Record<string, string>;
  running(): Promise<number>;
  kill(): Promise<void>;
  restart(): Promise<void>;
}

export interface ServedStageOptions {
  start(): Promise<StageServer>;
  stop(): Promise<void>;
  /** How long a server takes to come back, and its first answers after that, ms. */
  patienceMs: number;
  /** The text of an answer is the same after a takeover: of greedy answers it has to be. */
  prompt: string;
}

/** The whole stage with somebody else's server for an engine. */
export function servedStageSuite(name: string, options: ServedStageOptions): void {
  let server: StageServer;
  let stage: SpawnedStage;
  const { prompt, patienceMs } = options;
  const sampling = { temperature: 0, maxTokens: 400 };

  beforeAll(async () => {
    server = await options.start();
    stage = await spawnStage(await dataFolder(), { env: server.env });
  }, patienceMs);
  afterAll(async () => {
    await interrupt(stage);
    await removeFolder(stage.dataDir);
    await options.stop();
  });

  const idle = () => eventually(async () => (await server.running()) === 0, patienceMs);

  /** Reads a turn, and does something once it has said a few words. */
  async function readWhile(turn: Turn, act: () => Promise<unknown>): Promise<void> {
    let seq = 0;
    let acting: Promise<unknown> | undefined;
    for await (const update of turn) {
      if (update.type !== "text") continue;
      expect(update.from).toBe(seq + 1);
      seq = update.to;
      if (seq >= 8) acting ??= act();
    }
    expect(acting).toBeDefined();
    await acting;
  }

  describe(`a stage with ${name}`, () => {
    test("answers, and records what it said", async () => {
      const client = await stage.client();
      const reading = await read(client.chat({ prompt, sampling }));
      expect(reading.finishReason).toBe("stop");
      expect(reading.pieces).toBeGreaterThan(3);
      expect(await recorded(stage, reading)).toMatchObject({ answer: reading.text });
      const again = await read(client.resume({ turnId: reading.turnId }));
      expect(again.text).toBe(reading.text);
      client.close();
    });

    test("stops at a stop string, and for a cancel, and the server stops with it", async () => {
      const client = await stage.client();
      const whole = await read(client.chat({ prompt, sampling }));
      const stop = whole.text.slice(41, 47);
      const cut = await read(client.chat({ prompt, sampling: { ...sampling, stop: [stop] } }));
      expect(cut.text).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
      const turn = client.chat({ prompt, sampling });
      await readWhile(turn, async () => turn.cancel());
      const { turnId = "", conversationId = "" } = turn;
      const record = await recorded(stage, { turnId, conversationId });
      expect(record).toMatchObject({ status: "cancelled", answer: await turn.text() });
      await idle();
      client.close();
    });

    test("runs twenty turns at the same time", async () => {
      const client = await stage.client();
      const alone = await read(client.chat({ prompt, sampling }));
      const turns = Array.from({ length: 20 }, () => read(client.chat({ prompt, sampling })));
      for (const { text } of await Promise.all(turns)) expect(text).toBe(alone.text);
      await idle();
      client.close();
    });

    test(
      "goes on with the answer after the server was killed, from the last token",
      async () => {
        const client = await stage.client();
        const whole = await read(client.chat({ prompt, sampling }));
        const turn = client.chat({ prompt, sampling });
        const startedAt = Date.now();
        await readWhile(turn, async () => {
          const { pid = 0 } =
            (await stage.file()).parts.find((part) => part.name === "group") ?? {};
          await server.kill();
          await eventually(() => !isRunning(pid));
          await server.restart();
        });
        expect(Date.now() - startedAt).toBeLessThan(patienceMs);
        expect(await turn.text()).toBe(whole.text);
        const { turnId = "", conversationId = "" } = turn;
        await recorded(stage, { turnId, conversationId });
        expect(await eventsOf(stage, turnId)).toEqual([
          ...["TurnRequested", "TurnStarted", "TurnTakenOver", "TurnCompleted"],
        ]);
        client.close();
      },
      patienceMs,
    );
  });
}
