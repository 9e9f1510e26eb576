import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { Logger } from "@aws-lambda-powertools/logger";
import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Engine, FinishReason } from "../../dataplane/engine/engine.ts";
import { EngineError } from "../../dataplane/engine/engine-error.ts";
import { type TokenStream, tokenStream } from "../../dataplane/token-stream.ts";
import { type NewToken, TokenWriter } from "../../dataplane/token-writer.ts";
import { type LocalTokenizer, loadTokenizer } from "../../dataplane/tokenizer.ts";
import { runTurn, TurnRun } from "../../dataplane/turn-run.ts";
import type { Job, Report } from "../../events/jobs.ts";
import { freshRedis } from "../support/parts.ts";
import { syntheticEngine } from "../support/synthetic-engine.ts";

/**
 * Turns with the tokenizer of a real model, on a real Redis, whose leaders are stopped at any token.
 * The engine says what it is told to: an answer that was fixed before.
 */

const modelDir = join(import.meta.dirname, "..", "..", "models", "axon-guide");
const logger = new Logger({ serviceName: "test", logLevel: "SILENT" });
let tokenizer: LocalTokenizer;
let redis: Redis;
let stream: TokenStream;

beforeAll(async () => {
  tokenizer = await loadTokenizer(modelDir);
  redis = new Redis(await freshRedis());
  stream = tokenStream(redis);
});
afterAll(() => redis.disconnect());

/** The token ids of a text: what a chat with it has beyond one with an empty message. */
function tokensOf(content: string): number[] {
  const chat = (text: string) => tokenizer.encodeChat([{ role: "user", content: text }]);
  const empty = chat("");
  const whole = chat(content);
  return whole.slice(2, whole.length - (empty.length - 2));
}

function decode(tokens: readonly number[]): string {
  const detokenizer = tokenizer.detokenizer();
  return tokens.map((token) => detokenizer.push(token)).join("") + detokenizer.flush();
}

function textBefore(text: string, stop: readonly string[]): string {
  const found = stop.map((string) => text.indexOf(string)).filter((at) => at >= 0);
  return text.slice(0, found.length === 0 ? text.length : Math.min(...found));
}

interface Script {
  tokens: readonly number[];
  stop: readonly string[];
}

/** What befalls a leader once the engine has drawn so many tokens of the answer. */
interface Fate {
  after: number;
  happens: "handedOver" | "cancelled" | "dies";
}

interface Ended {
  tokens: NewToken[];
  text: string;
  finishReason: FinishReason | undefined;
}

/** Runs the turn as one leader after the other would; each has its fate, and the last has none. */
async function answer(script: Script, fates: Fate[], emitted: NewToken[] = []): Promise<Ended> {
  const turnId = randomUUID();
  const job = jobFor(turnId, script.stop);
  const claimant = { leaderId: "dead", groupId: "g", leaseMs: 0 };
  if (emitted.length > 0) {
    const claim = await stream.claim(job, claimant);
    if (claim.status !== "claimed") throw new Error(`The turn is ${claim.status}.`);
    await stream.appendAll([{ turnId, epoch: claim.epoch, from: 1, tokens: emitted }]);
  }
  const reports: Report[] = [];
  for (const fate of [...fates, undefined]) {
    const outcome = await lead(turnId, script, fate, reports);
    if (outcome === "finished") break;
  }
  const claim = await stream.claim(job, claimant);
  if (claim.status !== "sealed") throw new Error("The turn has no end.");
  const text = claim.tokens.map((token) => token.text).join("");
  const last = reports.at(-1);
  if (last === undefined || last.type === "started") throw new Error("The end was not reported.");
  expect(last.text).toBe(text);
  const { finishReason } = claim.end;
  return {
    // Who wrote which of them is another matter.
    tokens: claim.tokens.map(({ text, token }) => ({ text, token })),
    text,
    finishReason: finishReason === "failed" ? undefined : finishReason,
  };
}

async function lead(turnId: string, script: Script, fate: Fate | undefined, reports: Report[]) {
  const run = new TurnRun(jobFor(turnId, script.stop));
  const engine = scriptedEngine(script.tokens, (drawn) => {
    if (fate === undefined || drawn < fate.after) return;
    if (fate.happens === "dies") throw new EngineError("rank_lost", "A rank died.");
    run.stop(fate.happens);
  });
  const writer = new TokenWriter(stream, { now: Date.now, onError: () => {} });
  const deps = {
    ...{ engine, stream, writer, tokenizer, logger, now: Date.now },
    ...{ leaderId: randomUUID(), groupId: "g" },
    queue: { report: async (report: Report) => void reports.push(report) },
  };
  return runTurn(deps, run).catch((error: unknown) => {
    if (error instanceof EngineError && error.code === "rank_lost") return "died";
    throw error;
  });
}

function jobFor(turnId: string, stop: readonly string[]): Job {
  return {
    ...{ version: 1, turnId, tenantId: "t", conversationId: "c", revision: "r" },
    messages: [{ role: "user", content: "Say it." }],
    sampling: {
      ...{ maxTokens: 500, temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
      ...{ stop: [...stop], seed: 1 },
    },
    ...{ requestedAt: Date.now(), correlationId: "x", priority: "interactive" },
    priority: "interactive",
  };
}

/** Draws the given tokens, whatever it is asked; `onDraw` hears how many there are before each. */
function scriptedEngine(tokens: readonly number[], onDraw: (drawn: number) => void): Engine {
  return {
    ...syntheticEngine({ tokens: 0 }),
    async *generate({ emittedTokens, signal }) {
      for (let drawn = emittedTokens.length; ; drawn++) {
        onDraw(drawn);
        if (signal.aborted) return yield { type: "finish", reason: "cancelled" };
        const token = tokens[drawn];
        if (token === undefined) return yield { type: "finish", reason: "stop" };
        yield { type: "token", token };
      }
    },
  };
}

const emoji = ["🚀", "👩‍👩‍👧‍👦", "é", "漢", "🇩🇪", "\n", " a", "b", "ab", "The end"];
/** A text in pieces that are turned into tokens one by one, so that borders lie anywhere. */
const scripts = fc.record({
  tokens: fc
    .array(fc.string({ unit: fc.constantFrom(...emoji), maxLength: 4 }), { maxLength: 6 })
    .map((pieces) => pieces.flatMap((piece) => tokensOf(piece))),
  stop: fc.array(fc.string({ unit: fc.constantFrom(...emoji), minLength: 1, maxLength: 2 }), {
    maxLength: 3,
  }),
});
const fates = fc.array(
  fc.record({
    after: fc.nat(30),
    happens: fc.constantFrom("handedOver" as const, "dies" as const),
  }),
  { maxLength: 4 },
);

function expectWholeCharacters(tokens: readonly NewToken[]): void {
  for (const { text } of tokens) {
    expect(text.isWellFormed()).toBe(true);
    expect(text).not.toContain("\ufffd");
  }
}

describe("a turn whose text has characters of several tokens", () => {
  test("has the text that indexOf would leave of it, whoever goes on with it and when", async () => {
    await fc.assert(
      fc.asyncProperty(scripts, fates, async (script, befalls) => {
        const { tokens, text, finishReason } = await answer(script, befalls);
        expect(text).toBe(textBefore(decode(script.tokens), script.stop));
        expect(finishReason).toBe("stop");
        expectWholeCharacters(tokens);
        expect(tokens.map(({ token }) => token)).toEqual(script.tokens.slice(0, tokens.length));
      }),
      { numRuns: 150, interruptAfterTimeLimit: 5_000 },
    );
  });

  test("is the same from whatever token it is taken over", async () => {
    const tokens = tokensOf("One 🚀🚀 two 👩‍👩‍👧‍👦 three 漢字 four\n\nfive");
    for (const stop of [[], ["👦 th"], ["🚀 tw", "字 f"], ["\n\n\n", "zzz"], ["\n\n"]]) {
      const script = { tokens, stop };
      const whole = await answer(script, []);
      expect(whole.text).toBe(textBefore(decode(tokens), stop));
      for (let n = 1; n <= whole.tokens.length; n++) {
        expect(await answer(script, [], whole.tokens.slice(0, n))).toEqual(whole);
      }
    }
  });

  test("keeps to its stop strings, whatever the next leader draws instead", async () => {
    const tokens = tokensOf("aaa bb 🚀 The end");
    const stop = ["a bb 🚀 The e", "🚀 b", "b x"];
    const first = await answer({ tokens, stop }, []);
    const other = tokensOf(" x The 🚀 b");
    for (let n = 1; n < first.tokens.length; n++) {
      const mixed = [...tokens.slice(0, n), ...other];
      // The last token is only given away with the end, which is not what is taken over here.
      const { text } = await answer({ tokens: mixed, stop }, [], first.tokens.slice(0, n));
      expect(text).toBe(textBefore(decode(mixed), stop));
    }
  });

  test("has all of its last token, where that ends like the beginning of a stop string", async () => {
    const tokens = tokensOf("The end");
    const lastText = decode(tokens.slice(-1));
    expect(lastText.length).toBeGreaterThan(1);
    const stop = ["d!"];
    const whole = await answer({ tokens, stop }, []);
    expect(whole.text).toBe(decode(tokens));
    // That leader died before it could seal, and the next one's model has more to say: once.
    const more = [...tokens, ...tokensOf("less")];
    expect((await answer({ tokens: more, stop }, [], whole.tokens)).text).toBe(decode(more));
  });

  test("keeps what was said before a cancel, and nothing of a stop string", async () => {
    await fc.assert(
      fc.asyncProperty(scripts, fc.nat(20), async (script, after) => {
        const { tokens, text, finishReason } = await answer(script, [
          { after, happens: "cancelled" },
        ]);
        const said = tokens.map(({ token }) => token);
        expect(said).toEqual(script.tokens.slice(0, said.length));
        expect(text).toBe(textBefore(decode(said), script.stop));
        if (finishReason === "cancelled") expect(said).toHaveLength(after);
        else expect(after).toBeGreaterThanOrEqual(said.length);
      }),
      { numRuns: 100, interruptAfterTimeLimit: 4_000 },
    );
  });
});
