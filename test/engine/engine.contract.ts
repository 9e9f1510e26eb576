import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Engine, FinishReason, GenerateRequest } from "../../dataplane/engine/engine.ts";
import { readTokenizerFiles } from "../../dataplane/tokenizer-files.ts";
import { eventually } from "../support/eventually.ts";
import { greedySampling } from "./collect.ts";

/**
 * What every engine has to do, whatever it is made of, with the bundled model behind it. Its words are
 * compared with what JAX computes from the same weights (models/reference.py).
 */
export interface EngineHarness {
  /** An engine of the bundled model, with its weights as they are. */
  start(options: { slots: number; contextLength?: number }): Promise<Engine>;
  speaks: "ids" | "text";
  /** Whether a sampled answer that is continued says what it would have said. */
  isExact: boolean;
  /** Requests that the server behind the engine runs, whoever sent them. */
  runningAtServer?(): Promise<number>;
}

export const bundledModelDir = join(import.meta.dirname, "../../models/axon-guide");

interface Said {
  tokens: { token: number; text: string }[];
  text: string;
  finish: FinishReason | undefined;
}

interface Reference {
  greedy: { promptIds: number[]; ids: number[]; text: string }[];
}

const { greedy: references } = JSON.parse(
  readFileSync(join(bundledModelDir, "reference.json"), "utf8"),
) as Reference;
const lively = { ...greedySampling, temperature: 0.9, topK: 40, topP: 0.95, seed: 1234 };

let requests = 0;

export function engineContract(name: string, harness: EngineHarness): void {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const { json, config } = await readTokenizerFiles(bundledModelDir);
    tokenizer = new Tokenizer(json, config);
  });

  async function start(options: { slots?: number; contextLength?: number } = {}): Promise<Engine> {
    const engine = await harness.start({ slots: 4, ...options });
    onTestFinished(() => engine.close());
    return engine;
  }

  const decode = (ids: readonly number[], skipSpecial: boolean) =>
    ids.length === 0 ? "" : tokenizer.decode([...ids], { skip_special_tokens: skipSpecial });

  function ask(
    promptTokens: readonly number[],
    maxTokens: number,
    { emitted = [], ...more }: Partial<GenerateRequest> & { emitted?: Said["tokens"] } = {},
  ): GenerateRequest {
    requests += 1;
    const text = harness.speaks === "text" && {
      prompt: decode(promptTokens.filter(Number.isInteger), false),
      emitted: emitted.map((piece) => piece.text).join(""),
    };
    return {
      ...{ id: `request-${requests}`, promptTokens, maxTokens, sampling: greedySampling },
      emittedTokens: emitted.map(({ token }) => token),
      ...(text && { text }),
      signal: new AbortController().signal,
      ...more,
    };
  }

  async function answer(
    engine: Engine,
    request: GenerateRequest,
    onToken: (count: number) => void = () => {},
  ): Promise<Said> {
    const tokens: Said["tokens"] = [];
    let finish: FinishReason | undefined;
    let hasText = false;
    for await (const event of engine.generate(request)) {
      if (event.type === "finish") finish = event.reason;
      else {
        hasText = event.text !== undefined;
        onToken(tokens.push({ token: event.token, text: event.text ?? "" }));
      }
    }
    const ids = tokens.map(({ token }) => token);
    const text = hasText ? tokens.map((token) => token.text).join("") : decode(ids, true);
    return { tokens, text, finish };
  }

  const promptOf = (index: number) => references[index % references.length]?.promptIds ?? [];
  /** What is the same in two answers that say the same. */
  const wordsOf = ({ text, finish }: Said) => ({ text, finish });
  const isIdle = async (engine: Engine) => {
    const { runningTurns, waitingTurns } = engine.health();
    return runningTurns + waitingTurns + ((await harness.runningAtServer?.()) ?? 0) === 0;
  };

  describe(`${name}: an answer`, () => {
    test("has the reference's words, and ends where the model ends it", async () => {
      const engine = await start();
      const said = await Promise.all(
        references.map(({ promptIds }) => answer(engine, ask(promptIds, 200))),
      );
      expect(said.map(wordsOf)).toEqual(references.map(({ text }) => ({ text, finish: "stop" })));
      if (harness.speaks === "text") return;
      const ids = said.map(({ tokens }) => tokens.map(({ token }) => token));
      expect(ids).toEqual(references.map((reference) => reference.ids));
    });

    test("does not depend on what runs beside it", async () => {
      const engine = await start();
      const asked = Array.from({ length: 10 }, (_, i) =>
        ask(promptOf(i), 12 + i, { sampling: { ...lively, seed: i } }),
      );
      const alone: Said[] = [];
      for (const request of asked) alone.push(await answer(engine, request));
      // Each starts when its forerunner has said two tokens: more at a time than there are slots.
      const started: Promise<Said>[] = [];
      const startNext = () => {
        const request = asked[started.length];
        if (request === undefined) return;
        let hasStarted = false;
        started.push(
          answer(engine, request, (count) => {
            if (count < 2 || hasStarted) return;
            hasStarted = true;
            startNext();
          }),
        );
      };
      startNext();
      for (let i = 0; i < asked.length; i += 1) await started[i];
      const together = await Promise.all(started);
      expect(together.map(wordsOf)).toEqual(alone.map(wordsOf));
      await eventually(() => isIdle(engine));
    });

    test("goes on after what was emitted elsewhere", async () => {
      const engine = await start();
      const sampled = { ...lively, repetitionPenalty: 1.3, minP: 0.05, topK: 0 };
      for (const sampling of harness.isExact ? [greedySampling, sampled] : [greedySampling]) {
        const whole = await answer(engine, ask(promptOf(2), 200, { sampling }));
        const { length } = whole.tokens;
        for (const cut of [1, Math.floor(length / 2), length - 1]) {
          const emitted = whole.tokens.slice(0, cut);
          const rest = await answer(engine, ask(promptOf(2), 200, { sampling, emitted }));
          const before =
            harness.speaks === "ids" && emitted[0]?.text === ""
              ? decode(
                  emitted.map(({ token }) => token),
                  true,
                )
              : emitted.map(({ text }) => text).join("");
          expect(before + rest.text).toBe(whole.text);
          expect(rest.finish).toBe(whole.finish);
        }
      }
    });

    test("that is sampled is the same for the same seed, and another for another", async () => {
      const engine = await start();
      const say = async (seed: number, emitted: Said["tokens"] = []) => {
        const sampling = { ...lively, temperature: 1.2, seed };
        return answer(engine, ask(promptOf(2), 60, { sampling, emitted }));
      };
      const first = await say(7);
      expect(wordsOf(await say(7))).toEqual(wordsOf(first));
      expect((await say(8)).text).not.toBe(first.text);
      const emitted = first.tokens.slice(0, 5);
      expect(wordsOf(await say(7, emitted))).toEqual(wordsOf(await say(7, emitted)));
    });

    test("ends at its limit, counted with what was emitted elsewhere", async () => {
      const engine = await start();
      const five = await answer(engine, ask(promptOf(2), 5));
      expect(five.finish).toBe("length");
      expect(five.tokens).toHaveLength(5);
      const rest = await answer(engine, ask(promptOf(2), 7, { emitted: five.tokens }));
      expect([rest.tokens.length, rest.finish]).toEqual([2, "length"]);
      const none = await answer(engine, ask(promptOf(2), 5, { emitted: five.tokens }));
      expect([none.tokens.length, none.finish]).toEqual([0, "length"]);
    });

    test("ends at the context length", async () => {
      const prompt = promptOf(2);
      const engine = await start({ contextLength: prompt.length + 10 });
      const { tokens, finish } = await answer(engine, ask(prompt, 1_000));
      expect([tokens.length, finish]).toEqual([10, "length"]);
    });
  });

  describe(`${name}: a request that is not wanted any more`, () => {
    test("ends with its signal, and makes room for the next", async () => {
      const engine = await start({ slots: 1 });
      const controller = new AbortController();
      const whole = await answer(engine, ask(promptOf(2), 300));
      const cancelled = await answer(
        engine,
        ask(promptOf(2), 300, { signal: controller.signal }),
        (count) => count === 5 && controller.abort(),
      );
      expect([cancelled.tokens.length, cancelled.finish]).toEqual([5, "cancelled"]);
      expect(wordsOf(await answer(engine, ask(promptOf(2), 300)))).toEqual(wordsOf(whole));
      await eventually(() => isIdle(engine));
    });

    test("ends before it began, waiting or not even asked", async () => {
      const engine = await start({ slots: 1 });
      const waiting = new AbortController();
      const first = answer(engine, ask(promptOf(2), 60));
      const second = answer(engine, ask(promptOf(0), 30, { signal: waiting.signal }));
      waiting.abort();
      expect(await second).toMatchObject({ tokens: [], finish: "cancelled" });
      const already = ask(promptOf(0), 3, { signal: AbortSignal.abort() });
      expect(await answer(engine, already)).toMatchObject({ tokens: [], finish: "cancelled" });
      expect((await first).finish).toBe("length");
    });

    test("ends when its reader walks away", async () => {
      const engine = await start();
      // So hot that it hardly ever finds its end, which would be seconds away.
      const sampling = { ...greedySampling, temperature: 2, seed: 3 };
      for await (const event of engine.generate(ask(promptOf(2), 900, { sampling }))) {
        if (event.type === "token") break;
      }
      await eventually(() => isIdle(engine), 3_000);
    });
  });

  describe(`${name}: what cannot be is refused`, () => {
    const refused: [string, () => GenerateRequest, string][] = [
      ["a prompt as long as the context", () => ask(Array(1_024).fill(5), 1), "prompt_too_long"],
      ["no prompt", () => ask([], 1), "invalid_request"],
      ["half a token", () => ask([1.5], 1), "invalid_request"],
      ["nothing to say", () => ask([5], 0), "invalid_request"],
      [
        "a negative temperature",
        () => ask([5], 1, { sampling: { ...lively, temperature: -1 } }),
        "invalid_request",
      ],
      [
        "an empty nucleus",
        () => ask([5], 1, { sampling: { ...lively, topP: 0 } }),
        "invalid_request",
      ],
    ];
    // A text has no tokens that there are not.
    if (harness.speaks === "ids") {
      refused.push(["a token that there is not", () => ask([2_048], 1), "invalid_request"]);
    }
    test("with the request named, and the next is served", async () => {
      const engine = await start();
      for (const [what, make, code] of refused) {
        const request = make();
        const failing = answer(engine, request);
        await expect(failing, what).rejects.toMatchObject({
          code,
          message: expect.stringContaining(request.id),
        });
      }
      expect((await answer(engine, ask(promptOf(0), 3))).finish).toBe("length");
      expect(engine.health().state).toBe("ready");
    });
  });

  describe(`${name}: the engine`, () => {
    test("tells what it is, what it does, and how much more it can", async () => {
      const engine = await start({ slots: 3, contextLength: 500 });
      expect(engine.describe()).toMatchObject({ contextLength: 500, slots: 3 });
      await eventually(() => engine.health().room === 3);
      let seen: ReturnType<Engine["health"]> | undefined;
      await answer(engine, ask(promptOf(2), 60), (count) => {
        if (count === 3) seen = engine.health();
      });
      expect(seen).toMatchObject({ state: "ready", room: 2 });
      await eventually(() => engine.health().room === 3 && engine.health().steps > 0);
    });

    test("that is closed says so, to those that run and those that come", async () => {
      const engine = await start();
      const running = answer(engine, ask(promptOf(2), 300), (count) => {
        if (count === 3) void engine.close();
      });
      await expect(running).rejects.toMatchObject({ code: "closed" });
      await expect(answer(engine, ask(promptOf(0), 3))).rejects.toMatchObject({ code: "closed" });
      expect(engine.health().state).toBe("closed");
    });
  });
}
