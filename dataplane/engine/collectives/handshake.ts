/**
 * How a rank is let into a group. Both sides prove that they know the group's secret, without
 * sending it, by an HMAC over each other's random nonce and over what the rank claims to be:
 *
 *   leader → rank   challenge   the leader's nonce, the group's size and epoch
 *   rank → leader   hello       claim, the rank's nonce, the rank's proof
 *   leader → rank   welcome     the leader's proof; or refused, with the reason
 *
 * Only the entrance is guarded: what follows is neither signed nor encrypted, and belongs on a private
 * network, as the traffic of every tensor-parallel group does.
 */

import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { EngineError } from "../engine-error.ts";
import { type FrameSocket, frameKinds } from "./frame-socket.ts";

/** Raised whenever frames or step plans change: groups do not mix versions. */
const protocolVersion = 2;
const handshakeTimeoutMs = 5_000;
/** Once a rank is in, a frame may be so large: the logits or activations of a large step. */
const memberPayloadBytes = 1 << 30;

/** What all ranks of a group have to agree on. */
export interface GroupIdentity {
  ranks: number;
  /** Raised each time the group is formed anew, so that a rank of an earlier one cannot join. */
  epoch: number;
  /** Of the model's weights. */
  fingerprint: string;
  secret: string;
}

/** What a rank knows of the group that it wants to join: a rank on another host learns the rest there. */
export interface RankIdentity {
  fingerprint: string;
  secret: string;
  ranks?: number;
  epoch?: number;
}

interface Claim {
  protocol: number;
  rank: number;
  ranks: number;
  epoch: number;
  fingerprint: string;
}

/**
 * The leader's side. Returns the rank that was let in. Throws EngineError "refused" after it has told
 * the peer the reason, "rank_lost" when the peer goes away or says nothing.
 */
export async function admitRank(
  socket: FrameSocket,
  identity: GroupIdentity,
  isTaken: (rank: number) => boolean,
): Promise<number> {
  const nonce = randomBytes(32).toString("hex");
  const { ranks, epoch } = identity;
  socket.send("challenge", 0, Buffer.from(JSON.stringify({ nonce, ranks, epoch })));
  const hello = await withTimeout(socket, receiveText(socket));
  const { claim, nonce: rankNonce, proof } = parseHello(hello);
  const expected = prove(identity.secret, "rank", nonce, rankNonce, claim);
  const reason = reasonToRefuse(claim, identity, sameText(proof, expected), isTaken);
  if (reason !== undefined) {
    const error = new EngineError("refused", reason);
    socket.send("refused", 0, Buffer.from(reason));
    socket.close(error);
    throw error;
  }
  const welcome = prove(identity.secret, "leader", rankNonce, nonce, claim);
  socket.send("welcome", 0, Buffer.from(welcome));
  socket.maxPayloadBytes = memberPayloadBytes;
  return claim.rank;
}

/**
 * The rank's side. Returns the number of ranks in the group.
 * Throws EngineError "refused", or "leader_lost" when the leader goes away.
 */
export async function presentRank(
  socket: FrameSocket,
  rank: number,
  { fingerprint, secret, ...expected }: RankIdentity,
): Promise<number> {
  const challenge = parseChallenge(await withTimeout(socket, receiveText(socket)));
  const { ranks, epoch } = { ...challenge, ...expected };
  const claim = { protocol: protocolVersion, rank, ranks, epoch, fingerprint };
  const nonce = randomBytes(32).toString("hex");
  const proof = prove(secret, "rank", challenge.nonce, nonce, claim);
  socket.send("hello", 0, Buffer.from(JSON.stringify({ claim, nonce, proof })));
  const answer = await withTimeout(socket, receiveText(socket));
  let refusal: string | undefined;
  if (answer.kind !== frameKinds.welcome) refusal = answer.text;
  else if (!sameText(answer.text, prove(secret, "leader", nonce, challenge.nonce, claim))) {
    refusal = "The leader does not know the group's secret.";
  }
  if (refusal !== undefined) {
    const error = new EngineError("refused", refusal);
    socket.close(error);
    throw error;
  }
  socket.maxPayloadBytes = memberPayloadBytes;
  return ranks;
}

/** To one who does not know the secret, nothing else is told. */
function reasonToRefuse(
  claim: Claim,
  identity: GroupIdentity,
  proved: boolean,
  isTaken: (rank: number) => boolean,
): string | undefined {
  if (!proved) return "The group's secret differs.";
  const { protocol, rank, ranks, epoch, fingerprint } = claim;
  const differs = (what: string, own: number | string, theirs: number | string) =>
    `The ${what} differs: the leader has ${own}, rank ${rank} has ${theirs}.`;
  if (protocol !== protocolVersion) return differs("protocol version", protocolVersion, protocol);
  if (ranks !== identity.ranks) return differs("number of ranks", identity.ranks, ranks);
  if (epoch !== identity.epoch) return differs("group epoch", identity.epoch, epoch);
  if (fingerprint !== identity.fingerprint) {
    return differs("model", identity.fingerprint.slice(0, 12), fingerprint.slice(0, 12));
  }
  if (rank < 1 || rank >= ranks) return `There is no rank ${rank} in a group of ${ranks}.`;
  if (isTaken(rank)) return `Rank ${rank} is in the group already.`;
  return undefined;
}

function prove(
  secret: string,
  side: "rank" | "leader",
  theirNonce: string,
  ownNonce: string,
  { protocol, rank, ranks, epoch, fingerprint }: Claim,
): string {
  const parts = ["axon", side, theirNonce, ownNonce, protocol, rank, ranks, epoch, fingerprint];
  return createHmac("sha256", secret).update(JSON.stringify(parts)).digest("hex");
}

function sameText(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

async function receiveText(socket: FrameSocket): Promise<{ kind: number; text: string }> {
  const { kind, buffer, bytes } = await socket.receive();
  return { kind, text: Buffer.from(buffer, 0, bytes).toString("utf8") };
}

function parseChallenge({ text }: { text: string }) {
  const { nonce, ranks, epoch } = parseObject(text, "The challenge");
  return { nonce: String(nonce), ranks: Number(ranks), epoch: Number(epoch) };
}

function parseObject(text: string, what: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(text));
  } catch (cause) {
    throw new EngineError("refused", `${what} is no JSON.`, { cause });
  }
}

function parseHello({ text }: { text: string }): { claim: Claim; nonce: string; proof: string } {
  const { claim, nonce, proof } = parseObject(text, "The hello");
  const fields: Record<string, unknown> = Object(claim);
  const number = (field: string) => Number(fields[field]);
  return {
    claim: {
      protocol: number("protocol"),
      rank: number("rank"),
      ranks: number("ranks"),
      epoch: number("epoch"),
      fingerprint: String(fields["fingerprint"]),
    },
    nonce: String(nonce),
    // One character a byte, so that comparing in constant time compares equal lengths.
    proof: String(proof).replace(/[^0-9a-f]/g, "?"),
  };
}

/** Closes the connection when the other side lets us wait. */
async function withTimeout<T>(socket: FrameSocket, answer: Promise<T>): Promise<T> {
  const timer = setTimeout(() => {
    const message = `${socket.peer} did not answer within ${handshakeTimeoutMs} ms.`;
    socket.close(new EngineError("refused", message));
  }, handshakeTimeoutMs);
  try {
    return await answer;
  } finally {
    clearTimeout(timer);
  }
}
