#!/usr/bin/env node
/**
 * A rank above 0, in a process of its own: joins the leader's group, loads its share of the model, and
 * then follows the leader's step plans until the group ends.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Checkpoint } from "./checkpoint/checkpoint.ts";
import { joinGroup, type TcpSpoke } from "./collectives/tcp-spoke.ts";
import { EngineError, toEngineError } from "./engine-error.ts";
import { follow } from "./follower.ts";

const help = `Usage: node rank.ts --rank N --leader HOST:PORT --model PATH [--tp RANKS --epoch N] [--rejoin]

Runs one rank of a tensor-parallel group. The group's secret comes from AXON_GROUP_SECRET.

  --rank N            which one, from 1 to RANKS - 1 (rank 0 is in the leader)
  --leader HOST:PORT  where the leader listens
  --model PATH        the same checkpoint that the leader has
  --tp RANKS          ranks in the group, if it may be no other number than this
  --epoch N           how often the group has been formed, if it may be no other
  --rejoin            wait for a leader, and join again whenever the group has ended

It ends with 0 when the leader closes the group, and with another code and a message when the
leader refuses it (3), is lost (4), or anything else fails (1; 2 for wrong arguments).
`;

/** From the end of a group to the next attempt to join one. */
const rejoinMs = 1_000;
/** What another attempt may do better at. */
const passing = new Set(["closed", "leader_lost", "refused"]);

interface RankOptions {
  rank: number;
  host: string;
  port: number;
  modelDir: string;
  ranks?: number;
  epoch?: number;
  secret: string;
  rejoin: boolean;
}

function parseOptions(args: string[]): RankOptions | "help" {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args,
    options: {
      rank: text,
      leader: text,
      model: text,
      tp: text,
      epoch: text,
      rejoin: { type: "boolean", default: false },
      help: { type: "boolean" },
    },
  });
  if (values.help) return "help";
  const required = (value: string | undefined, name: string): string => {
    if (value !== undefined && value !== "") return value;
    throw new EngineError("invalid_request", `${name} is missing; --help explains it.`);
  };
  const integer = (value: string | undefined, name: string): number => {
    if (/^\d{1,15}$/.test(required(value, name))) return Number(value);
    throw new EngineError("invalid_request", `${name} has to be a number, and is "${value}".`);
  };
  const leader = required(values.leader, "--leader");
  const colon = leader.lastIndexOf(":");
  return {
    rank: integer(values.rank, "--rank"),
    host: required(leader.slice(0, colon), "the host in --leader"),
    port: integer(leader.slice(colon + 1), "the port in --leader"),
    modelDir: required(values.model, "--model"),
    ...(values.tp !== undefined && { ranks: integer(values.tp, "--tp") }),
    ...(values.epoch !== undefined && { epoch: integer(values.epoch, "--epoch") }),
    rejoin: values.rejoin,
    secret: required(process.env["AXON_GROUP_SECRET"], "AXON_GROUP_SECRET"),
  };
}

/** Follows the leader until the group ends, which is thrown. */
async function run({ rank, host, port, modelDir, ...identity }: RankOptions): Promise<never> {
  const checkpoint = await Checkpoint.open(modelDir);
  const { fingerprint } = checkpoint;
  const group = await joinGroup({ host, port }, rank, { ...identity, fingerprint });
  if (identity.rejoin) say(rank, `has joined the group of ${group.size} at ${host}:${port}`);
  return await Promise.race([groupEnd(group), follow(checkpoint, group)]);
}

/** Joins one group after the other. What cannot pass by itself is thrown. */
async function runAgainAndAgain(options: RankOptions): Promise<never> {
  let said = "";
  for (;;) {
    try {
      await run(options);
    } catch (thrown) {
      const error = toEngineError(thrown);
      if (!passing.has(error.code)) throw error;
      // The same reason once a second is no news.
      if (said !== error.message) say(options.rank, `waits to join (${error.message})`);
      said = error.message;
    }
    await sleep(rejoinMs);
  }
}

function say(rank: number, what: string): void {
  process.stderr.write(`rank ${rank} ${what}\n`);
}

function groupEnd(group: TcpSpoke): Promise<never> {
  return new Promise((_, reject) => group.onLost(reject));
}

async function main(): Promise<number> {
  const exitCodes: Record<string, number> = { closed: 0, refused: 3, leader_lost: 4 };
  // Nobody may be left to read what we say: that must not keep us from ending.
  process.stderr.on("error", () => {});
  let options: RankOptions | "help";
  try {
    options = parseOptions(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${toEngineError(error).message}\n`);
    return 2;
  }
  if (options === "help") {
    process.stdout.write(help);
    return 0;
  }
  try {
    return await (options.rejoin ? runAgainAndAgain(options) : run(options));
  } catch (error) {
    const { code, message } = toEngineError(error);
    if (code !== "closed") say(options.rank, `ends (${code}): ${message}`);
    return exitCodes[code] ?? 1;
  }
}

process.exit(await main());
