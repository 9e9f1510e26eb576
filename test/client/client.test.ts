import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { connect } from "../../client/client.ts";
import type { Turn, TurnUpdate } from "../../client/turn.ts";
import type { ClientFrame } from "../../events/frames.ts";
import { eventually } from "../support/eventually.ts";
import {
  accepted,
  counting,
  done,
  type ScriptedConnection,
  scriptedServer,
  tokens,
} from "./scripted-server.ts";

let stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops) await stop();
  stops = [];
});

async function serve(
  onFrame: (frame: ClientFrame, connection: ScriptedConnection) => void,
  options: { refuse?: boolean } = {},
) {
  const server = await scriptedServer(onFrame, options);
  const client = connect({ url: server.url, credential: "kéy" });
  stops.push(() => client.close(), server.stop);
  return { server, client };
}

async function updatesOf(turn: Turn): Promise<TurnUpdate[]> {
  const updates: TurnUpdate[] = [];
  for await (const update of turn) updates.push(update);
  return updates;
}

/** The text that a reader of the updates ends up with, having checked each sequence number. */
function readingOf(updates: TurnUpdate[]): string {
  let text = "";
  let seq = 0;
  for (const update of updates) {
    if (update.type === "rewind") {
      ({ text, to: seq } = update);
    } else if (update.type === "text") {
      expect(update.from).toBe(seq + 1);
      seq = update.to;
      text += update.text;
    } else if (update.type === "done") {
      expect(seq).toBe(update.lastSeq);
      expect(update.text).toBe(text);
    }
  }
  return text;
}

describe("a chat", () => {
  test("yields accepted, the text as it comes, and done", async () => {
    const { client, server } = await serve((frame, connection) => {
      if (frame.action !== "chat") return;
      const turnId = `turn-${frame.requestId}`;
      connection.send(accepted(frame.requestId));
      connection.send(tokens(turnId, 1, 2));
      connection.send(tokens(turnId, 3, 3));
      connection.send(done(turnId, 3));
    });
    const turn = client.chat({ prompt: "count", sampling: { temperature: 0 } });
    const updates = await updatesOf(turn);
    expect(updates.map(({ type }) => type)).toEqual(["accepted", "text", "text", "done"]);
    expect(readingOf(updates)).toBe("1 2 3 ");
    expect(await turn.text()).toBe("1 2 3 ");
    expect(turn.turnId).toMatch(/^turn-/);
    expect(server.received).toMatchObject([
      { action: "chat", prompt: "count", sampling: { temperature: 0 } },
    ]);
    expect(server.protocols[0]).toBe(
      `axon.v1, axon.auth.${Buffer.from("kéy").toString("base64url")}`,
    );
  });

  test("applies frames that come before it is accepted", async () => {
    const { client } = await serve((frame, connection) => {
      if (frame.action !== "chat") return;
      const turnId = `turn-${frame.requestId}`;
      connection.send(tokens(turnId, 1, 2));
      connection.send(done(turnId, 2));
      connection.send(accepted(frame.requestId));
    });
    expect(await client.chat({ prompt: "x" }).text()).toBe("1 2 ");
  });

  test("that is refused throws what the server said", async () => {
    const { client } = await serve((frame, connection) => {
      if (frame.action !== "chat") return;
      connection.send({
        ...{ type: "error", code: "unknown_model", message: "There is no model x." },
        ...{ retryable: false, field: "model", requestId: frame.requestId },
      });
    });
    const turn = client.chat({ prompt: "x", model: "x" });
    await expect(updatesOf(turn)).rejects.toMatchObject({ code: "unknown_model", field: "model" });
    await expect(turn.text()).rejects.toThrow("There is no model x.");
  });

  test("that is refused for now can be sent again as the same request", async () => {
    const { client, server } = await serve((frame, connection) => {
      if (frame.action !== "chat") return;
      if (server.received.length > 1) {
        connection.send(accepted(frame.requestId));
        connection.send(done(`turn-${frame.requestId}`, 0));
        return;
      }
      const refusal = { code: "unavailable", message: "Later.", retryable: true } as const;
      connection.send({ type: "error", ...refusal, requestId: frame.requestId });
    });
    const request = { prompt: "x", requestId: "mine" };
    await expect(client.chat(request).text()).rejects.toMatchObject({ retryable: true });
    const turn = client.chat(request);
    await turn.text();
    expect(turn.turnId).toBe("turn-mine");
    expect(server.received).toMatchObject([request, request]);
  });

  test("that failed on its way says so in its text", async () => {
    const { client } = await serve((frame, connection) => {
      if (frame.action !== "chat") return;
      connection.send(accepted(frame.requestId));
      const error = { code: "prompt_too_long", message: "Shorten it." };
      const end = done(`turn-${frame.requestId}`, 0);
      connection.send({ ...end, finishReason: "failed", error } as typeof end);
    });
    await expect(client.chat({ prompt: "x" }).text()).rejects.toMatchObject({
      code: "prompt_too_long",
    });
  });

  test("is cancelled by its signal, once it is accepted", async () => {
    const { client, server } = await serve((frame, connection) => {
      if (frame.action === "chat") connection.send(accepted(frame.requestId));
      else if (frame.action === "cancel") connection.send(done(frame.turnId, 0));
    });
    const turn = client.chat({ prompt: "x", signal: AbortSignal.abort() });
    await turn.text();
    expect(server.received.map(({ action }) => action)).toEqual(["chat", "cancel"]);
  });

  test("shares its socket with fifty others, and mixes with none", async () => {
    const { client, server } = await serve((frame, connection) => {
      if (frame.action !== "chat") return;
      const turnId = `turn-${frame.requestId}`;
      connection.send(accepted(frame.requestId));
      let seq = 0;
      const timer = setInterval(() => {
        if (++seq <= 20) {
          connection.send(tokens(turnId, seq, seq));
        } else {
          clearInterval(timer);
          connection.send(done(turnId, 20));
        }
      }, 2);
    });
    const turns = Array.from({ length: 50 }, () => client.chat({ prompt: "x" }));
    for (const updates of await Promise.all(turns.map(updatesOf))) {
      expect(readingOf(updates)).toBe(counting(1, 20));
    }
    expect(server.connections()).toBe(1);
  });
});

describe("sequence numbers", () => {
  test("a repeat is skipped", async () => {
    const { client } = await serve((frame, connection) => {
      if (frame.action !== "chat") return;
      const turnId = `turn-${frame.requestId}`;
      connection.send(accepted(frame.requestId));
      for (const [from, to] of [
        [1, 3],
        [1, 3],
        [2, 3],
        [4, 4],
      ] as const) {
        connection.send(tokens(turnId, from, to));
      }
      connection.send(done(turnId, 4));
    });
    expect(readingOf(await updatesOf(client.chat({ prompt: "x" })))).toBe("1 2 3 4 ");
  });

  test.each([
    ["a gap", [5, 6]],
    ["an overlap", [2, 5]],
  ])("%s is asked about from the last token applied", async (_, [from = 0, to = 0]) => {
    const { client, server } = await serve((frame, connection) => {
      if (frame.action === "chat") {
        const turnId = `turn-${frame.requestId}`;
        connection.send(accepted(frame.requestId));
        connection.send(tokens(turnId, 1, 3));
        connection.send(tokens(turnId, from, to));
      } else if (frame.action === "resume") {
        connection.send(tokens(frame.turnId, frame.after + 1, 6));
        connection.send(done(frame.turnId, 6));
      }
    });
    expect(readingOf(await updatesOf(client.chat({ prompt: "x" })))).toBe(counting(1, 6));
    expect(server.received.slice(1)).toMatchObject([{ action: "resume", after: 3 }]);
  });

  test("an end that comes too early is asked about", async () => {
    const { client } = await serve((frame, connection) => {
      if (frame.action === "chat") {
        connection.send(accepted(frame.requestId));
        connection.send(done(`turn-${frame.requestId}`, 2));
      } else if (frame.action === "resume") {
        connection.send(tokens(frame.turnId, 1, 2));
        connection.send(done(frame.turnId, 2));
      }
    });
    expect(await client.chat({ prompt: "x" }).text()).toBe("1 2 ");
  });

  test("a rewind takes text back, and asks for what it cannot cut", async () => {
    const { client } = await serve((frame, connection) => {
      if (frame.action === "chat") {
        const turnId = `turn-${frame.requestId}`;
        connection.send(accepted(frame.requestId));
        connection.send(tokens(turnId, 1, 2));
        connection.send(tokens(turnId, 3, 6));
        connection.send({ type: "rewind", turnId, to: 4 });
      } else if (frame.action === "resume") {
        expect(frame.after).toBe(2);
        connection.send(tokens(frame.turnId, 3, 5));
        connection.send(done(frame.turnId, 5));
      }
    });
    const updates = await updatesOf(client.chat({ prompt: "x" }));
    expect(updates).toContainEqual({ type: "rewind", text: "1 2 ", to: 2 });
    expect(readingOf(updates)).toBe(counting(1, 5));
  });
});

describe("a lost connection", () => {
  test("in mid-answer is opened again, and the turn goes on", async () => {
    const { client, server } = await serve((frame, connection) => {
      if (frame.action === "chat") {
        connection.send(accepted(frame.requestId));
        connection.send(tokens(`turn-${frame.requestId}`, 1, 4));
        setTimeout(connection.drop, 20);
      } else if (frame.action === "resume") {
        connection.send(tokens(frame.turnId, frame.after + 1, 8));
        connection.send(done(frame.turnId, 8));
      }
    });
    expect(readingOf(await updatesOf(client.chat({ prompt: "x" })))).toBe(counting(1, 8));
    expect(server.received).toMatchObject([{ action: "chat" }, { action: "resume", after: 4 }]);
  });

  test("before the answer to a request has it sent again under the same id", async () => {
    const { client, server } = await serve((frame, connection) => {
      if (frame.action !== "chat") return;
      if (connection.index === 0) {
        connection.drop();
        return;
      }
      connection.send(accepted(frame.requestId));
      connection.send(done(`turn-${frame.requestId}`, 0));
    });
    await client.chat({ prompt: "x" }).text();
    const [first, second] = server.received;
    expect(server.received).toHaveLength(2);
    expect(second).toEqual(first);
  });

  test("that never was is given up with a reason", async () => {
    const { client } = await serve(() => {}, { refuse: true });
    await expect(client.chat({ prompt: "x" }).text()).rejects.toMatchObject({
      code: "connection_failed",
      retryable: true,
    });
  });

  test("is not missed when nothing runs: the next request opens one", async () => {
    const { client, server } = await serve((frame, connection) => {
      if (frame.action !== "chat") return;
      connection.send(accepted(frame.requestId));
      connection.send(done(`turn-${frame.requestId}`, 0));
      setTimeout(connection.drop, 5);
    });
    await client.chat({ prompt: "x" }).text();
    await eventually(() => server.connections() === 1);
    await client.chat({ prompt: "y" }).text();
  });

  test("a closed client ends its turns, and takes no new ones", async () => {
    const { client } = await serve(() => {});
    const turn = client.chat({ prompt: "x" });
    client.close();
    await expect(turn.text()).rejects.toMatchObject({ code: "closed" });
    await expect(client.chat({ prompt: "y" }).text()).rejects.toMatchObject({ code: "closed" });
  });
});

test("whatever is dropped, repeated or cut off, the reader gets every token once", async () => {
  const mishap = fc.constantFrom("none", "none", "none", "repeat", "repeat", "lose", "drop");
  const step = fc.record({ size: fc.integer({ min: 1, max: 4 }), mishap });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (script) => {
      const last = script.reduce((sum, { size }) => sum + size, 0);
      const steps = [...script];
      // Each connection plays on where the script is; what a resume asks for is sent first.
      const play = (connection: ScriptedConnection, turnId: string, after: number): void => {
        let seq = after;
        for (let next = steps.shift(); next; next = steps.shift()) {
          const to = Math.min(last, seq + next.size);
          if (to === seq) break;
          if (next.mishap !== "lose") connection.send(tokens(turnId, seq + 1, to));
          if (next.mishap === "repeat") connection.send(tokens(turnId, seq + 1, to));
          seq = to;
          if (next.mishap === "lose") return;
          if (next.mishap === "drop") {
            connection.socket.close();
            return;
          }
        }
        if (seq < last) connection.send(tokens(turnId, seq + 1, last));
        connection.send(done(turnId, last));
      };
      const { client, server } = await serve((frame, connection) => {
        if (frame.action === "chat") {
          connection.send(accepted(frame.requestId));
          play(connection, `turn-${frame.requestId}`, 0);
          // A loss at the very end shows only by the end itself.
          connection.send(done(`turn-${frame.requestId}`, last));
        } else if (frame.action === "resume") {
          play(connection, frame.turnId, frame.after);
          connection.send(done(frame.turnId, last));
        }
      });
      expect(readingOf(await updatesOf(client.chat({ prompt: "x" })))).toBe(counting(1, last));
      client.close();
      await server.stop();
    }),
    { numRuns: 15 },
  );
}, 60_000);
