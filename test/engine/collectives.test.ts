import { createConnection, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Collective, SoloCollective } from "../../dataplane/engine/collectives/collective.ts";
import {
  allocateSharedGroup,
  closeSharedGroup,
  SharedMemoryCollective,
} from "../../dataplane/engine/collectives/shared-memory.ts";
import { listenForRanks, TcpHub } from "../../dataplane/engine/collectives/tcp-hub.ts";
import { joinGroup } from "../../dataplane/engine/collectives/tcp-spoke.ts";
import { tcpGroup } from "./model-group.ts";

/** What every collective promises, whatever carries it. */

const groups: [string, () => Promise<Collective[]>][] = [
  ["solo", async () => [new SoloCollective()]],
  ["TCP, 2 ranks", () => tcpGroup(2)],
  ["TCP, 4 ranks", () => tcpGroup(4)],
  ["shared memory, 2 ranks", async () => sharedGroup(2)],
  ["shared memory, 4 ranks", async () => sharedGroup(4)],
];

function sharedGroup(ranks: number): Collective[] {
  const memory = allocateSharedGroup(ranks);
  return Array.from({ length: ranks }, (_, rank) => {
    return new SharedMemoryCollective(memory, rank, ranks);
  });
}

/** Numbers whose sum depends on the order of additions. */
function partial(rank: number, length: number): Float32Array {
  return new Float32Array(length).map((_, i) => {
    return Math.sin(i * 7.3 + rank) * 10 ** ((i * 5 + rank * 3) % 12);
  });
}

describe.each(groups)("%s", (_, form) => {
  test.each([1, 7, 4096, 100_000])("adds %i numbers in the order of ranks", async (length) => {
    const group = await form();
    const parts = group.map(({ rank }) => partial(rank, length));
    const expected = parts
      .map((part) => part.slice())
      .reduce((sum, part) => {
        return sum.map((value, i) => value + (part[i] ?? 0));
      });
    await Promise.all(
      group.map(({ rank, allReduce }, i) => {
        return allReduce.call(group[i], parts[rank] ?? new Float32Array());
      }),
    );
    for (const part of parts) expect(part).toEqual(expected);
  });

  test("gathers the slices behind each other, on rank 0 only", async () => {
    const group = await form();
    const gathered = await Promise.all(
      group.map((collective) => collective.gather(Float32Array.of(collective.rank, 0.5))),
    );
    expect(gathered[0]).toEqual(Float32Array.from(group.flatMap(({ rank }) => [rank, 0.5])));
    expect(gathered.slice(1).every((slices) => slices === undefined)).toBe(true);
  });

  test("carries rank 0's message to all, an empty one too", async () => {
    const group = await form();
    const long = new Int32Array(50_000).map((_, i) => i);
    for (const message of [Int32Array.of(1, -2, 3), new Int32Array(), long]) {
      const heard = await Promise.all(
        group.map(({ rank }, i) => group[i]?.broadcast(rank === 0 ? message : undefined)),
      );
      for (const copy of heard) expect(copy).toEqual(message);
    }
  });

  test("keeps hundreds of operations in order, each rank at its own pace", async () => {
    const group = await form();
    const run = async (collective: Collective) => {
      const sums: number[] = [];
      for (let round = 0; round < 200; round += 1) {
        const [message = 0] = await collective.broadcast(Int32Array.of(round));
        const values = Float32Array.of(message + collective.rank);
        await collective.allReduce(values);
        sums.push(values[0] ?? 0);
        // The buffer belongs to the caller again: nothing on its way may change with it.
        values[0] = -1;
        if (round % 3 === 0) await collective.gather(values);
      }
      return sums;
    };
    const all = await Promise.all(group.map(run));
    const ranks = group.reduce((sum, { rank }) => sum + rank, 0);
    const expected = Array.from({ length: 200 }, (_, round) => round * group.length + ranks);
    for (const sums of all) expect(sums).toEqual(expected);
  });
});

describe("over TCP", () => {
  const identity = { ranks: 2, epoch: 4, fingerprint: "model-a", secret: "secret" };
  const address = (port: number) => ({ host: "127.0.0.1", port });

  async function listen() {
    const entrance = await listenForRanks(identity, address(0));
    entrance.complete.catch(() => {});
    onTestFinished(() => entrance.close());
    return entrance;
  }

  test.each([
    ["another secret", { secret: "guess" }, 1, "secret differs"],
    ["another model", { fingerprint: "model-b" }, 1, "model differs"],
    ["an earlier epoch", { epoch: 3 }, 1, "epoch differs"],
    ["another number of ranks", { ranks: 4 }, 1, "number of ranks differs"],
    ["a rank that there is not", {}, 2, "no rank 2"],
    ["rank 0, which is the leader", {}, 0, "no rank 0"],
  ])("%s is refused with the reason, and the place stays open", async (_, wrong, rank, reason) => {
    const { port, complete } = await listen();
    const attempt = joinGroup(address(port), rank, { ...identity, ...wrong });
    await expect(attempt).rejects.toMatchObject({
      code: "refused",
      message: expect.stringContaining(reason),
    });
    const spoke = await joinGroup(address(port), 1, identity);
    const hub = new TcpHub(await complete, () => {});
    expect(spoke.size).toBe(2);
    hub.close();
  });

  test("a rank that is there already is refused", async () => {
    const three = { ...identity, ranks: 3 };
    const entrance = await listenForRanks(three, address(0));
    entrance.complete.catch(() => {});
    onTestFinished(() => entrance.close());
    await joinGroup(address(entrance.port), 1, three);
    const second = joinGroup(address(entrance.port), 1, three);
    await expect(second).rejects.toMatchObject({ code: "refused" });
  });

  test("garbage before the handshake is neither believed nor stored", async () => {
    const { port } = await listen();
    const socket: Socket = createConnection(port, "127.0.0.1");
    const closed = new Promise((resolve) => socket.on("close", resolve));
    socket.on("error", () => {});
    socket.resume();
    socket.write(Buffer.alloc(4096, 0xff));
    await closed;
    await joinGroup(address(port), 1, identity);
  });

  test("a leader that does not know the secret is found out", async () => {
    const entrance = await listenForRanks({ ...identity, secret: "guess" }, address(0));
    entrance.complete.catch(() => {});
    onTestFinished(() => entrance.close());
    const attempt = joinGroup(address(entrance.port), 1, identity);
    await expect(attempt).rejects.toMatchObject({ code: "refused" });
  });

  test("nobody there is an error, too", async () => {
    const { port, close } = await listen();
    close();
    await expect(joinGroup(address(port), 1, identity)).rejects.toMatchObject({
      code: "leader_lost",
    });
  });

  test("a rank that leaves ends every operation, on all ranks", async () => {
    const [hub, one, two] = await tcpGroup(3);
    const waiting = [hub?.allReduce(Float32Array.of(1)), two?.allReduce(Float32Array.of(1))];
    one?.close();
    const outcomes = await Promise.allSettled(waiting);
    expect(outcomes).toMatchObject([
      {
        status: "rejected",
        reason: { code: "rank_lost", message: expect.stringContaining("rank 1") },
      },
      { status: "rejected", reason: { code: "leader_lost" } },
    ]);
    await expect(hub?.broadcast(Int32Array.of(1))).rejects.toMatchObject({ code: "rank_lost" });
  });

  test("a group that is closed says so", async () => {
    const [hub, one] = await tcpGroup(2);
    const waiting = one?.broadcast();
    hub?.close();
    await expect(waiting).rejects.toMatchObject({ code: "closed" });
  });

  test("ranks at different operations notice it", async () => {
    const [hub, one] = await tcpGroup(2);
    void one?.gather(Float32Array.of(1));
    const sum = hub?.allReduce(Float32Array.of(1));
    await expect(sum).rejects.toMatchObject({ code: "internal" });
  });
});

test("a group over shared memory can be ended from outside", async () => {
  const memory = allocateSharedGroup(2);
  const waiting = new SharedMemoryCollective(memory, 0, 2).allReduce(Float32Array.of(1));
  closeSharedGroup(memory);
  await expect(waiting).rejects.toMatchObject({ code: "closed" });
});
