import type { Logger } from "@aws-lambda-powertools/logger";
import type { Job, Report } from "../events/jobs.ts";
import { refusedCodes } from "../events/objectives.ts";
import type { StreamEnd } from "../events/redis-keys.ts";
import { traceparentOf } from "../events/tracing/trace-context.ts";
import { answerOf } from "./answer.ts";
import { retry } from "./backoff.ts";
import type { Engine, FinishReason } from "./engine/engine.ts";
import { EngineError } from "./engine/engine-error.ts";
import { classify } from "./errors.ts";
import type { JobQueue } from "./job-queue.ts";
import { leaseMs } from "./lease.ts";
import type { LeaderMeter } from "./metrics/leader-meter.ts";
import { fitPrompt, type Prompt, rawPrompt } from "./prompt.ts";
import type { CancelReason, Claim, StreamToken, TokenStream } from "./token-stream.ts";
import type { NewToken, TokenWriter, TurnWriter } from "./token-writer.ts";
import type { ChatTokenizer } from "./tokenizer.ts";
import type { RunTrace, TurnTracer } from "./turn-tracer.ts";

/**
 * One turn in the hands of a leader.
 *
 *   delivered → claimed      the claim in Redis succeeded: the turn is ours, by its epoch.
 *             → held         a living leader has it: the job comes back later.
 *             → finished     the stream was sealed before: its report is sent once more.
 *   claimed   → generating   the prompt fits and the engine runs.
 *             → sealing      the prompt does not fit, or a cancel came first.
 *   generating→ sealing      the engine ended, a stop string or a limit was reached, the turn was
 *                            cancelled, or the engine refuses it as it is.
 *             → lost         an append or a renewal found a higher epoch: not one word more.
 *             → handedOver   we drain, or the engine has failed: the lease is given up.
 *   sealing   → finished     the end is in the stream and the report on its queue.
 *
 * The job is deleted in `finished` only.
 */
export type Outcome = "finished" | "held" | "lost" | "handedOver";

export interface TurnDeps {
  engine: Engine;
  stream: TokenStream;
  writer: TokenWriter;
  queue: Pick<JobQueue, "report">;
  tokenizer: ChatTokenizer;
  leaderId: string;
  groupId: string;
  now: () => number;
  logger: Logger;
  /** Where nothing is traced there is none. */
  tracer?: TurnTracer | undefined;
  meter?: LeaderMeter | undefined;
}

/**
 * After so many leaders in a row that claimed a turn and died before its next token, it is the turn that
 * kills them, and it ends as failed.
 */
const mostBarrenClaims = 10;

type Claimed = Extract<Claim, { status: "claimed" }>;

/** Why a running turn was told to stop. Only a cancel is an end that the user gets to see. */
type StopReason = "cancelled" | "lost" | "handedOver";

export class TurnRun {
  readonly job: Job;
  /** Known after the claim. */
  epoch: number | undefined;
  /** Its way into the token stream, while it generates. */
  lane: TurnWriter | undefined;
  cancelReason: CancelReason | undefined;
  /** What came with the job. */
  readonly traceparent: string | undefined;
  /** Where the turn is traced. */
  trace: RunTrace | undefined;
  /** Its leader's lease had run out. */
  isTakeover = false;
  readonly #abort = new AbortController();
  #stopReason: StopReason | undefined;

  constructor(job: Job, traceparent?: string) {
    this.job = job;
    this.traceparent = traceparent;
  }

  /** What a log line says about whom it concerns. */
  get logKeys(): Record<string, string> {
    const { turnId, tenantId, conversationId, correlationId } = this.job;
    const { traceId, spanId } = this.trace?.context ?? {};
    return {
      ...{ turnId, tenantId, conversationId, correlationId },
      ...(traceId !== undefined && spanId !== undefined && { traceId, spanId }),
    };
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get stopReason(): StopReason | undefined {
    return this.#stopReason;
  }

  /** Ends generation within one step. Whoever has lost the turn cannot cancel it any more. */
  stop(reason: StopReason): void {
    if (this.#stopReason === undefined || reason === "lost") this.#stopReason = reason;
    this.#abort.abort();
  }

  cancel(reason: CancelReason): void {
    this.cancelReason ??= reason;
    this.stop("cancelled");
  }
}

const storeMayRecover = (error: unknown): boolean => classify(error) !== "fatal";

/**
 * Runs a turn from its claim to its report.
 * @throws EngineError when the engine itself has failed; the lease is given up before that.
 */
export async function runTurn(deps: TurnDeps, run: TurnRun): Promise<Outcome> {
  run.trace = await deps.tracer?.begin(run.job, run.traceparent);
  try {
    const outcome = await runClaimed(deps, run);
    run.trace?.ended(outcome);
    return outcome;
  } catch (error) {
    run.trace?.ended({ error });
    throw error;
  }
}

async function runClaimed(deps: TurnDeps, run: TurnRun): Promise<Outcome> {
  const { leaderId, groupId } = deps;
  const claim = await retry(() => deps.stream.claim(run.job, { leaderId, groupId, leaseMs }), {
    worthRetrying: storeMayRecover,
    signal: run.signal,
  });
  run.trace?.claimed(claim);
  deps.meter?.claims[claim.status].add();
  if (claim.status === "held") return "held";
  if (claim.status === "sealed") {
    const text = textOf(claim.tokens);
    await send(deps, run, terminalReport(deps, run, claim, text, claim.end));
    return "finished";
  }
  run.epoch = claim.epoch;
  if (run.isTakeover) deps.meter?.takeovers.add();
  if (claim.cancel !== undefined) run.cancel(claim.cancel);
  // FIFO keeps the order of what was sent, so the first report must be on its way before the last.
  const started = send(deps, run, startedReport(deps, run, claim));
  try {
    return await generate(deps, run, claim, started);
  } catch (error) {
    run.stop("handedOver");
    await giveUp(deps, run);
    throw error;
  }
}

async function generate(
  deps: TurnDeps,
  run: TurnRun,
  claim: Claimed,
  started: Promise<void>,
): Promise<Outcome> {
  const prompt = await promptOf(deps, run);
  const { leaderId, groupId, writer } = deps;
  const lane = writer.open({ ...claim, job: run.job, leaderId, groupId }, () => run.stop("lost"));
  run.lane = lane;
  const said = deps.meter?.pace();
  try {
    let text = textOf(claim.tokens);
    let finish: FinishReason | TurnError;
    if ("code" in prompt) finish = prompt;
    else if (claim.barrenClaims > mostBarrenClaims) finish = undeliverable(claim);
    else {
      run.trace?.generating(prompt.tokens.length, claim.tokens.length);
      const answer = tokensOf(deps, run, prompt, claim.tokens);
      for (let next = await answer.next(); ; next = await answer.next()) {
        if (next.done) {
          finish = next.value;
          break;
        }
        text += next.value.text;
        lane.write(next.value);
        run.trace?.token();
        said?.();
      }
    }
    const lastSeq = await lane.settled();
    run.trace?.generated(lane.appends());
    if (run.stopReason === "lost") return "lost";
    if (run.stopReason === "handedOver") {
      await giveUp(deps, run);
      return "handedOver";
    }
    const firstTokenAt = claim.firstTokenAt || (lane.firstWrittenAt() ?? deps.now());
    const promptTokens = "code" in prompt ? 0 : prompt.tokens.length;
    deps.meter?.promptTokens.add(promptTokens);
    const end = endOf(deps, run, claim, { lastSeq, finish, firstTokenAt, promptTokens });
    if ((await seal(deps, run, lane, claim.epoch, end)) === "stale") return "lost";
    run.trace?.sealed(end, text);
    deps.meter?.sealed(end, run.job.priority);
    await started;
    await send(deps, run, terminalReport(deps, run, { ...claim, ...deps }, text, end));
    return "finished";
  } finally {
    lane.close();
  }
}

/** Ends the stream, which may have to be written anew before. */
async function seal(
  deps: TurnDeps,
  run: TurnRun,
  lane: TurnWriter,
  epoch: number,
  end: StreamEnd,
): Promise<"sealed" | "stale"> {
  for (;;) {
    const result = await retry(() => deps.stream.seal(run.job, epoch, end), {
      worthRetrying: storeMayRecover,
    });
    if (result !== "behind") return result === "stale" ? "stale" : "sealed";
    await retry(() => lane.restore(), { worthRetrying: storeMayRecover });
    if (run.stopReason === "lost") return "stale";
  }
}

/** Why a turn fails that is not to be tried again. */
interface TurnError {
  code: string;
  message: string;
}

/** What the model reads, or why it cannot. */
async function promptOf(deps: TurnDeps, run: TurnRun): Promise<Prompt | TurnError> {
  const { messages, sampling, promptFormat } = run.job;
  const { contextLength } = deps.engine.describe();
  const room = { contextLength, maxTokens: sampling.maxTokens };
  try {
    const prompt =
      promptFormat === "raw"
        ? await rawPrompt(deps.tokenizer, messages.at(-1)?.content ?? "", room)
        : await fitPrompt(deps.tokenizer, messages, room);
    if (prompt !== undefined) return prompt;
  } catch (error) {
    return refusalIn(deps, run, error);
  }
  const message = `The prompt is too long for this model, whose context holds ${contextLength} tokens. Shorten it.`;
  return { code: "prompt_too_long", message };
}

function undeliverable({ barrenClaims }: Claimed): TurnError {
  const message = `${barrenClaims - 1} leaders in a row ended before they said a word more.`;
  return { code: "undeliverable", message: `${message} Ask something else.` };
}

/** @throws the error, if it is no refusal. */
function refusalIn(deps: TurnDeps, run: TurnRun, error: unknown): TurnError {
  if (!(error instanceof EngineError && refusedCodes.has(error.code))) throw error;
  deps.logger.warn("the engine refuses a turn", { ...run.logKeys, error });
  return { code: error.code, message: error.message };
}

/** The answer's new tokens with their text, and why there are no more. */
async function* tokensOf(
  deps: TurnDeps,
  run: TurnRun,
  prompt: Prompt,
  emitted: readonly StreamToken[],
): AsyncGenerator<NewToken, FinishReason | TurnError> {
  const { turnId, tenantId } = run.job;
  const { maxTokens, stop, ...sampling } = run.job.sampling;
  const answer = answerOf(deps.tokenizer.detokenizer(), stop);
  answer.resume(emitted);
  if (answer.ended) return "stop";
  const events = deps.engine.generate({
    ...{ id: turnId, promptTokens: prompt.tokens, maxTokens, sampling, cacheScope: tenantId },
    emittedTokens: emitted.map(({ token }) => token),
    ...(prompt.text !== undefined && { text: { prompt: prompt.text, emitted: textOf(emitted) } }),
    signal: run.signal,
  });
  try {
    for await (const event of events) {
      if (event.type === "finish") {
        // Only of this leader's work: the next one draws the waiting tokens again, and goes on.
        if (run.stopReason === "handedOver" || run.stopReason === "lost") return event.reason;
        yield* answer.finish();
        return answer.ended && event.reason !== "cancelled" ? "stop" : event.reason;
      }
      yield* answer.push(event);
      if (answer.ended) return "stop";
    }
  } catch (error) {
    return refusalIn(deps, run, error);
  }
  throw new EngineError("internal", `The engine left turn ${turnId} without an end.`);
}

function endOf(
  deps: TurnDeps,
  run: TurnRun,
  claim: Claimed,
  result: {
    lastSeq: number;
    finish: FinishReason | TurnError;
    firstTokenAt: number;
    promptTokens: number;
  },
): StreamEnd {
  const { lastSeq, finish, firstTokenAt, promptTokens } = result;
  const { startedAt } = claim;
  const hasFailed = typeof finish !== "string";
  return {
    lastSeq,
    epoch: lastSeq > claim.tokens.length ? claim.epoch : (claim.tokens.at(-1)?.epoch ?? 0),
    finishReason: hasFailed ? "failed" : finish,
    usage: { promptTokens, completionTokens: lastSeq },
    timings: {
      queuedMs: Math.max(0, startedAt - run.job.requestedAt),
      firstTokenMs: Math.max(0, firstTokenAt - startedAt),
      totalMs: Math.max(0, deps.now() - startedAt),
    },
    ...(hasFailed && { error: finish }),
  };
}

function textOf(tokens: readonly NewToken[]): string {
  return tokens.map((token) => token.text).join("");
}

function reportBase(
  deps: TurnDeps,
  run: TurnRun,
  { groupId, leaderId, epoch }: { groupId: string; leaderId: string; epoch: number },
) {
  const { turnId, correlationId } = run.job;
  return { version: 1, turnId, groupId, leaderId, epoch, at: deps.now(), correlationId } as const;
}

function startedReport(deps: TurnDeps, run: TurnRun, claim: Claimed): Report {
  const emittedTokens = claim.tokens.length;
  return { type: "started", ...reportBase(deps, run, claim), emittedTokens };
}

function terminalReport(
  deps: TurnDeps,
  run: TurnRun,
  by: { groupId: string; leaderId: string; epoch: number; startedAt: number },
  text: string,
  end: StreamEnd,
): Report {
  const { usage, timings } = end;
  const ending = { ...reportBase(deps, run, by), startedAt: by.startedAt, text, usage, timings };
  switch (end.finishReason) {
    case "stop":
    case "length":
      return { type: "completed", ...ending, finishReason: end.finishReason };
    case "cancelled":
      return { type: "cancelled", ...ending, reason: run.cancelReason ?? "user" };
    case "failed": {
      const { code = "internal", message = "The turn failed." } = end.error ?? {};
      return { type: "failed", ...ending, code, message };
    }
  }
}

/** Sends a report, as often as it takes: the job is not deleted before. */
async function send(deps: TurnDeps, run: TurnRun, report: Report): Promise<void> {
  const traceparent = run.trace && traceparentOf(run.trace.spanOf(report));
  await retry(() => deps.queue.report(report, traceparent), { worthRetrying: storeMayRecover });
  deps.meter?.reports[report.type].add();
}

/** Ends the lease at once, so that the next leader need not wait for it to run out. */
async function giveUp(deps: TurnDeps, run: TurnRun): Promise<void> {
  if (run.epoch === undefined) return;
  await deps.stream.renewAll([{ job: run.job, epoch: run.epoch }], 0).catch((error: unknown) => {
    deps.logger.warn("A lease could not be given up; it runs out by itself.", {
      ...run.logKeys,
      error: error as Error,
    });
  });
}
