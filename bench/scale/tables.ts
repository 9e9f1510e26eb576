import { grouped } from "../../cluster/plan/amounts.ts";
import { Random } from "../../test/simulation/random.ts";
import { table } from "../statistics.ts";
import { type Bill, billOf } from "./bill.ts";
import { simulateCallbacks } from "./callbacks.ts";
import { type Demand, demandOf } from "./demand.ts";
import { groupChoices } from "./groups.ts";
import { limitsInOrder } from "./limits.ts";
import { type Door, simulateStorm, type WhoComes } from "./storm.ts";

/** The tables of docs/SCALE.md, by the names that it has them under. The same seed gives the same ones. */
export type TableName = "load" | "parts" | "limits" | "callbacks" | "storm" | "groups" | "bill";

const usualSizes = [1_000, 10_000, 100_000, 1_000_000];
/** Where frames begin to widen, and where their window is at its widest. */
const callbackSizes = [20_000, 40_000];

export function scaleTables(connections: number, seed: number): Record<TableName, string> {
  const upTo = (sizes: readonly number[]) =>
    [...new Set([...sizes.filter((size) => size < connections), connections])].sort(
      (a, b) => a - b,
    );
  const sizes = upTo(usualSizes);
  return {
    load: byConnections(sizes.map(demandOf), loadColumns),
    parts: byConnections(sizes.map(demandOf), partColumns),
    limits: limitTable(),
    callbacks: callbackTable(upTo([...usualSizes, ...callbackSizes]), seed),
    storm: stormTable(sizes, seed),
    groups: groupTable(connections),
    bill: byConnections(sizes.map(billOf), billColumns),
  };
}

type Columns<T> = Record<string, (row: T) => string>;

function byConnections<T extends { connections: number }>(
  rows: readonly T[],
  columns: Columns<T>,
): string {
  const head = ["connections", ...Object.keys(columns)];
  return table(
    head,
    rows.map((row) => [
      grouped(row.connections),
      ...Object.values(columns).map((cellOf) => cellOf(row)),
    ]),
  );
}

/** Two digits below ten, none above. */
function figure(value: number): string {
  return value < 10 ? String(Number(value.toFixed(1))) : grouped(value);
}

const dollars = (usd: number): string => `$${grouped(usd)}`;

const loadColumns: Columns<Demand> = {
  "prompts/s": ({ turns }) => figure(turns),
  "answers at a time": ({ running }) => figure(running),
  "tokens/s": ({ tokens }) => figure(tokens),
  "new connections/s": ({ newConnections }) => figure(newConnections),
  "reopened by a prompt/s": ({ reopened }) => figure(reopened),
  "pings/s": ({ pings }) => figure(pings),
  "frames of 100 ms/s": ({ frames }) => figure(frames),
};

const partColumns: Columns<Demand> = {
  groups: ({ groups }) => figure(groups),
  "relays, own door": ({ relays }) => figure(relays),
  "Redis: appends/s": ({ redisAppends }) => figure(redisAppends),
  memory: ({ redisBytes }) => `${(redisBytes / 1e9).toFixed(1)} GB`,
  shards: ({ redisShards }) => figure(redisShards),
  "log: commits/s": ({ commits }) => figure(commits),
  "write units/s": ({ writeUnits }) => figure(writeUnits),
  "SQS calls/s": ({ sqsCalls }) => figure(sqsCalls),
  "Lambda calls/s": ({ invocations }) => figure(invocations),
  "at a time": ({ lambdaConcurrency }) => figure(lambdaConcurrency),
};

const billColumns: Columns<Bill> = {
  "million tokens": ({ tokens }) => grouped(tokens / 1e6),
  GPUs: ({ gpus }) => dollars(gpus),
  "API Gateway": ({ apiGateway }) => dollars(apiGateway),
  "or relays": ({ relays }) => dollars(relays),
  Lambda: ({ lambda }) => dollars(lambda),
  SQS: ({ queues }) => dollars(queues),
  DynamoDB: ({ log }) => dollars(log),
  Redis: ({ redis }) => dollars(redis),
  PostgreSQL: ({ postgresql }) => dollars(postgresql),
  network: ({ network }) => dollars(network),
  "all, with relays": ({ sum }) => dollars(sum),
  "a million tokens": ({ sum, tokens }) => `$${((sum / tokens) * 1e6).toFixed(2)}`,
  "of it without GPUs": ({ sum, gpus, tokens }) => `$${(((sum - gpus) / tokens) * 1e6).toFixed(3)}`,
};

function limitTable(): string {
  const head = ["connections", "what gives out", "limit", "then"];
  return table(
    head,
    limitsInOrder().map(({ connections, what, limit, remedy }) => [
      ...[grouped(Math.floor(connections / 1_000) * 1_000), what, limit, remedy],
    ]),
  );
}

function callbackTable(sizes: readonly number[], seed: number): string {
  const head = [
    ...["connections", "answers at a time", "frames/s", "of the budget", "tokens a frame"],
    "ms between frames (p50 / p99)",
  ];
  const rows = sizes.map((size) => {
    const result = simulateCallbacks(size, new Random(seed));
    const { running, framesPerSecond, used, tokensPerFrame, betweenFramesMs } = result;
    return [
      ...[grouped(size), figure(running), figure(framesPerSecond)],
      ...[`${(used * 100).toFixed(0)} %`, tokensPerFrame.toFixed(1)],
      `${grouped(betweenFramesMs.p50)} / ${grouped(betweenFramesMs.p99)}`,
    ];
  });
  return table(head, rows);
}

const comers: Record<WhoComes, string> = {
  waiting: "who waits for an answer",
  everybody: "everybody",
};

function stormTable(sizes: readonly number[], seed: number): string {
  const head = [
    ...["who comes back", "door", "connections", "lost and back", "handshakes/s", "half back, s"],
    ...["99 %, s", "all, s", "attempts each", "attempts in the busiest second"],
  ];
  const cases = (["waiting", "everybody"] as const).flatMap((who) =>
    (["API Gateway", "relays"] as const).map((door) => ({ who, door })),
  );
  const row = (who: WhoComes, door: Door, size: number) => {
    const storm = simulateStorm(size, door, who, new Random(seed));
    const { half, most, all } = storm.backSeconds;
    return [
      ...[comers[who], door, grouped(size), grouped(storm.coming), grouped(storm.doorPerSecond)],
      ...[half, most, all].map((seconds) => seconds.toFixed(0)),
      ...[storm.attemptsPerClient.toFixed(1), grouped(storm.mostAttemptsPerSecond)],
    ];
  };
  return table(
    head,
    cases.flatMap(({ who, door }) => sizes.map((size) => row(who, door, size))),
  );
}

function groupTable(connections: number): string {
  const head = [
    ...["group", "TP × PP", "slots", "answers at a time", "tokens/s", "ms a token, full"],
    ...["ms, one turn alone", "USD a million tokens", `groups for ${grouped(connections)}`],
  ];
  const rows = groupChoices(demandOf(connections).turns).map((choice) => {
    const { instanceType, nodes, tensorParallel, pipelineParallel, slots } = choice.revision;
    return [
      ...[`${nodes} × ${instanceType}`, `${tensorParallel} × ${pipelineParallel}`, String(slots)],
      ...[String(choice.turns), grouped(choice.tokensPerSecond), choice.interTokenMs.toFixed(0)],
      ...[choice.floorMs.toFixed(1), `$${choice.perMillionUsd.toFixed(2)}`, grouped(choice.groups)],
    ];
  });
  return table(head, rows);
}
