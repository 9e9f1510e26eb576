import { onTestFinished } from "vitest";
import { Checkpoint } from "../../dataplane/engine/checkpoint/checkpoint.ts";
import { type Collective, SoloCollective } from "../../dataplane/engine/collectives/collective.ts";
import { listenForRanks, TcpHub } from "../../dataplane/engine/collectives/tcp-hub.ts";
import { joinGroup } from "../../dataplane/engine/collectives/tcp-spoke.ts";
import type { Kernels } from "../../dataplane/engine/kernels/kernels.ts";
import { ReferenceKernels } from "../../dataplane/engine/kernels/reference/reference-kernels.ts";
import { LlamaModel } from "../../dataplane/engine/model/llama.ts";
import { pagesFor } from "../../dataplane/engine/model/page-layout.ts";
import type { StepPlan } from "../../dataplane/engine/step-plan.ts";

/** All ranks of a TCP group within this process, in the order of ranks. */
export async function tcpGroup(ranks: number): Promise<Collective[]> {
  const identity = { ranks, epoch: 1, fingerprint: "f", secret: "s" };
  const entrance = await listenForRanks(identity, { host: "127.0.0.1", port: 0 });
  const address = { host: "127.0.0.1", port: entrance.port };
  const others = Array.from({ length: ranks - 1 }, (_, i) => joinGroup(address, i + 1, identity));
  const spokes = await Promise.all(others);
  const hub = new TcpHub(await entrance.complete, () => {});
  onTestFinished(() => hub.close());
  return [hub, ...spokes];
}

/** Pages of keys and values of a test's model: many short sequences. */
const testPages = 800;
/** Pages of a sequence's slot: tests name sequences by number, and never share pages. */
const pagesPerSlot = 40;

/** A chunk of the sequence in `slot`, whose pages are the slot's. */
export function chunkOf(slot: number, start: number, tokens: readonly number[], draws: boolean) {
  const count = pagesFor(start + tokens.length);
  const pages = Array.from({ length: count }, (_, i) => slot * pagesPerSlot + i);
  const pick = { count: 1, temperature: 0, repetitionPenalty: 1, penalized: [] };
  return draws ? { start, pages, tokens, pick } : { start, pages, tokens };
}

/** A model split over `ranks` ranks within this process. `forward` gives whole logits, draw by draw. */
export async function loadModelGroup(
  folder: string,
  ranks: number,
  createKernels: () => Kernels = () => new ReferenceKernels(),
) {
  const collectives = ranks === 1 ? [new SoloCollective()] : await tcpGroup(ranks);
  const checkpoint = await Checkpoint.open(folder);
  const room = { rows: 512, pages: testPages };
  const models = await Promise.all(
    collectives.map((collective) => LlamaModel.load(checkpoint, collective, createKernels(), room)),
  );
  await checkpoint.close();
  const { config } = checkpoint;
  const forward = async (plan: StepPlan): Promise<Float32Array[]> => {
    const slices = await Promise.all(models.map((model) => model.forward(plan)));
    const draws = plan.chunks.filter((chunk) => chunk.pick !== undefined).length;
    return Array.from({ length: draws }, (_, draw) => {
      return Float32Array.from(slices.flatMap((rank) => [...(rank[draw] ?? [])]));
    });
  };
  return { config, forward };
}

export type ModelGroup = Awaited<ReturnType<typeof loadModelGroup>>;

/** The logits after the last of `tokens`, computed in slot `slot` in chunks of `chunk` tokens. */
export async function logitsOf(
  group: ModelGroup,
  tokens: readonly number[],
  { slot = 0, chunk = tokens.length } = {},
): Promise<Float32Array> {
  let rows: Float32Array[] = [];
  for (let start = 0; start < tokens.length; start += chunk) {
    const part = tokens.slice(start, start + chunk);
    const isLast = start + chunk >= tokens.length;
    rows = await group.forward({ chunks: [chunkOf(slot, start, part, isLast)] });
  }
  return rows[0] ?? new Float32Array();
}

export function argmax(logits: ArrayLike<number>): number {
  return Array.from(logits).reduce(
    (best, value, i, all) => (value > (all[best] ?? 0) ? i : best),
    0,
  );
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? 0))), 0);
}
