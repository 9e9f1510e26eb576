import { describe, expect, test } from "vitest";
import { fold } from "../../events/decider.ts";
import { isTerminal, type TurnCommand, turn } from "../../events/turn.ts";
import type { TurnEvent } from "../../events/turn-events.ts";
import { scenarios } from "./scenario.ts";

const { given } = scenarios(turn);

const request = {
  at: 100,
  turnId: "t1",
  conversationId: "c1",
  tenantId: "acme",
  model: "guide",
  revision: "guide-1",
  prompt: "Hello",
  sampling: {
    ...{ maxTokens: 64, temperature: 0, topK: 0, topP: 1, seed: 7 },
    ...{ minP: 0, repetitionPenalty: 1, stop: [] as string[] },
  },
  priority: "interactive",
  correlationId: "x1",
} as const;
const requested: TurnEvent = { type: "TurnRequested", version: 1, ...request };

const runner = (epoch: number) => ({ groupId: "g1", leaderId: `l${epoch}`, epoch });
const started: TurnEvent = {
  type: "TurnStarted",
  version: 1,
  at: 110,
  turnId: "t1",
  ...runner(1),
};
const takenOver = (epoch: number, emittedTokens: number, at = 120): TurnEvent => ({
  type: "TurnTakenOver",
  version: 1,
  at,
  turnId: "t1",
  ...runner(epoch),
  emittedTokens,
});

const usage = { promptTokens: 3, completionTokens: 2 };
const timings = { queuedMs: 10, firstTokenMs: 5, totalMs: 30 };
const outcome = (epoch: number) => ({ epoch, text: "Hi.", usage });
const completed = (epoch = 1): TurnEvent => ({
  type: "TurnCompleted",
  version: 1,
  at: 140,
  turnId: "t1",
  ...outcome(epoch),
  finishReason: "stop",
  timings,
});
const cancelled: TurnEvent = {
  type: "TurnCancelled",
  version: 1,
  at: 140,
  turnId: "t1",
  ...outcome(1),
  timings,
};
const failed: TurnEvent = {
  type: "TurnFailed",
  version: 1,
  at: 140,
  turnId: "t1",
  ...outcome(1),
  code: "prompt_too_long",
  message: "Shorten it.",
};
const cancelRequested: TurnEvent = {
  type: "TurnCancelRequested",
  version: 1,
  at: 130,
  turnId: "t1",
  reason: "user",
};

const reportStarted = (epoch: number, emittedTokens = 0, at = 110): TurnCommand => ({
  type: "ReportStarted",
  at,
  turnId: "t1",
  ...runner(epoch),
  emittedTokens,
});
const ending = (epoch: number) => ({
  at: 140,
  turnId: "t1",
  ...runner(epoch),
  startedAt: 110,
  text: "Hi.",
  usage,
  timings,
});
const reportCompleted = (epoch = 1): TurnCommand => ({
  type: "ReportCompleted",
  ...ending(epoch),
  finishReason: "stop",
});
const reportCancelled: TurnCommand = { type: "ReportCancelled", ...ending(1), reason: "user" };
const reportAbandoned: TurnCommand = { ...reportCancelled, reason: "abandoned" };
const reportFailed: TurnCommand = {
  type: "ReportFailed",
  ...ending(1),
  code: "prompt_too_long",
  message: "Shorten it.",
};
const requestCancel: TurnCommand = {
  type: "RequestCancel",
  at: 130,
  turnId: "t1",
  tenantId: "acme",
  reason: "user",
};

describe("RequestTurn", () => {
  test("begins a turn", () => {
    given()
      .when({ type: "RequestTurn", ...request })
      .then(requested);
  });

  test("says nothing the second time, whatever has become of the turn", () => {
    const again: TurnCommand = { type: "RequestTurn", ...request, at: 999 };
    given(requested).when(again).thenNothing();
    given(requested, started, completed()).when(again).thenNothing();
  });
});

describe("ReportStarted", () => {
  test("makes the first claim a start", () => {
    given(requested).when(reportStarted(1)).then(started);
  });

  test("makes a later claim a takeover, with the tokens that were there", () => {
    given(requested, started)
      .when(reportStarted(2, 40, 120))
      .then(takenOver(2, 40));
  });

  test("says nothing twice, and nothing for a leader that lost the turn", () => {
    given(requested, started).when(reportStarted(1)).thenNothing();
    given(requested, started, takenOver(2, 40)).when(reportStarted(1)).thenNothing();
  });

  test("says nothing after the end", () => {
    given(requested, started, completed()).when(reportStarted(2)).thenNothing();
  });

  test("is refused for a turn that nobody asked for", () => {
    given().when(reportStarted(1)).thenRefused("turn_not_found", "turnId");
  });
});

describe("the reports of an end", () => {
  test("end a running turn", () => {
    given(requested, started).when(reportCompleted()).then(completed());
    given(requested, started).when(reportCancelled).then(cancelled);
    const wish = {
      type: "TurnCancelRequested",
      version: 1,
      at: cancelled.at,
      turnId: cancelled.turnId,
    };
    given(requested, started)
      .when(reportAbandoned)
      .then({ ...wish, reason: "abandoned" } as TurnEvent, cancelled);
    given(requested, started).when(reportFailed).then(failed);
  });

  test("imply the start that has not arrived", () => {
    given(requested).when(reportCompleted()).then(started, completed());
    given(requested, started)
      .when(reportCompleted(2))
      .then(takenOver(2, 0, 110), completed(2));
  });

  test("change nothing after the end, whichever comes second", () => {
    for (const end of [completed(), cancelled, failed]) {
      for (const late of [reportCompleted(), reportCancelled, reportFailed, reportCompleted(5)]) {
        given(requested, started, end).when(late).thenNothing();
      }
    }
  });

  test("say nothing for a leader that lost the turn", () => {
    given(requested, started, takenOver(2, 40)).when(reportCompleted(1)).thenNothing();
  });

  test("may complete a turn that was to be cancelled", () => {
    given(requested, started, cancelRequested).when(reportCompleted()).then(completed());
  });
});

describe("RequestCancel", () => {
  test("is noted while the turn is open", () => {
    given(requested).when(requestCancel).then(cancelRequested);
    given(requested, started).when(requestCancel).then(cancelRequested);
  });

  test("is noted once", () => {
    given(requested, cancelRequested).when(requestCancel).thenNothing();
  });

  test("changes nothing after the end", () => {
    for (const end of [completed(), cancelled, failed]) {
      given(requested, started, end).when(requestCancel).thenNothing();
    }
  });

  test("finds no turn that is not there, nor another tenant's", () => {
    given().when(requestCancel).thenRefused("turn_not_found", "turnId");
    given(requested, started)
      .when({ ...requestCancel, tenantId: "rival" })
      .thenRefused("turn_not_found", "turnId");
    given(requested, started, completed())
      .when({ ...requestCancel, tenantId: "rival" })
      .thenRefused("turn_not_found", "turnId");
  });
});

describe("EndUnclaimed", () => {
  const endUnclaimed: TurnCommand = { type: "EndUnclaimed", at: 150, turnId: "t1", epoch: 7 };
  const ended: TurnEvent = {
    ...{ type: "TurnCancelled", version: 1, at: 150, turnId: "t1", epoch: 7, text: "" },
    usage: { promptTokens: 0, completionTokens: 0 },
    timings: { queuedMs: 50, firstTokenMs: 0, totalMs: 0 },
  };

  test("cancels a turn that no leader has had, with the epoch of its stream", () => {
    given(requested, cancelRequested).when(endUnclaimed).then(ended);
    const state = fold(turn, [requested, cancelRequested, ended]);
    expect(state).toMatchObject({ status: "cancelled", epoch: 7, text: "" });
    expect(isTerminal(state)).toBe(true);
  });

  test("changes nothing of one that a leader has, that was not to be cancelled, or that has ended", () => {
    given(requested, started, cancelRequested).when(endUnclaimed).thenNothing();
    given(requested).when(endUnclaimed).thenNothing();
    given(requested, cancelRequested, ended).when(endUnclaimed).thenNothing();
    given(requested, cancelRequested, ended).when(reportCancelled).thenNothing();
  });

  test("is refused for a turn that nobody asked for", () => {
    given().when(endUnclaimed).thenRefused("turn_not_found", "turnId");
  });
});

describe("EndStranded", () => {
  const endStranded: TurnCommand = {
    ...{ type: "EndStranded", at: 150, turnId: "t1", epoch: 7, text: "Half" },
    usage: { promptTokens: 0, completionTokens: 2 },
    timings: { queuedMs: 10, firstTokenMs: 5, totalMs: 40 },
    ...{ code: "unavailable", message: "Ask again." },
  };
  const facts = {
    ...({ version: 1, at: 150, turnId: "t1", epoch: 7, text: "Half" } as const),
    usage: { promptTokens: 0, completionTokens: 2 },
  };
  const ended: TurnEvent = {
    ...{ type: "TurnFailed", ...facts, code: "unavailable", message: "Ask again." },
  };

  test("fails a turn, with what it has said, whether a leader has had it or not", () => {
    given(requested).when(endStranded).then(ended);
    given(requested, started).when(endStranded).then(ended);
  });

  test("cancels one that was to be cancelled", () => {
    const timings = { queuedMs: 10, firstTokenMs: 5, totalMs: 40 };
    given(requested, started, cancelRequested)
      .when(endStranded)
      .then({ type: "TurnCancelled", ...facts, timings });
  });

  test("changes nothing of one that has ended, or that a leader has claimed since", () => {
    given(requested, started, completed()).when(endStranded).thenNothing();
    given(requested, started, takenOver(8, 2)).when(endStranded).thenNothing();
    given(requested, ended).when(reportCancelled).thenNothing();
  });
});

describe("the state", () => {
  test("follows a turn through a takeover to its end", () => {
    const events = [requested, started, takenOver(2, 40), cancelRequested, completed(2)];
    const statuses = events.map((_, i) => fold(turn, events.slice(0, i + 1)).status);
    expect(statuses).toEqual(["requested", "running", "running", "running", "completed"]);
    expect(fold(turn, events)).toMatchObject({
      tenantId: "acme",
      epoch: 2,
      cancelRequested: true,
      requestedAt: 100,
      text: "Hi.",
    });
  });

  test.each([
    ["completed", completed()],
    ["cancelled", cancelled],
    ["failed", failed],
  ])("is terminal when %s", (status, end) => {
    const state = fold(turn, [requested, started, end]);
    expect(state.status).toBe(status);
    expect(isTerminal(state)).toBe(true);
    expect(isTerminal(fold(turn, [requested, started]))).toBe(false);
  });
});
