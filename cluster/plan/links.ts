/**
 * What it costs to talk, for the small messages of decoding: 16 KB for one row of a hidden size of 8,192.
 * There it is latency that counts, so each figure is a measured time and not a bandwidth.
 */

export interface Link {
  name: "NVLink" | "PCIe" | "EFA" | "TCP" | "shared memory";
  /** An all-reduce of some 16 KB over all ranks, seconds. */
  allReduceSeconds: number;
  /** What each further byte of a message takes, seconds: for steps of many rows. */
  secondsPerByte: number;
  source: string;
}

/**
 * Each byte crosses a link 2·(n−1)/n times in an all-reduce (ring: Patarasuk and Yuan, 2009), here twice:
 * the bound for many ranks.
 */
const perByte = (bytesPerSecond: number): number => 2 / bytesPerSecond;

export const links = {
  NVLink: {
    name: "NVLink",
    allReduceSeconds: 12e-6,
    // 600 GB/s of an A100 count both directions.
    secondsPerByte: perByte(300e9),
    source:
      "vLLM's own kernel on 8 H100, 32 KB, without CUDA graphs: 11.8 µs (github.com/sgl-project/sglang/pull/2904)",
  },
  PCIe: {
    name: "PCIe",
    allReduceSeconds: 64e-6,
    secondsPerByte: perByte(16e9),
    source: "NCCL on 8 A800 over PCIe, 16 KB: 63.8 µs (github.com/vllm-project/vllm/issues/50576)",
  },
  EFA: {
    name: "EFA",
    allReduceSeconds: 265e-6,
    // 400 Gbit/s of a p4d.
    secondsPerByte: perByte(50e9),
    source:
      "NCCL on 2 × p4d.24xlarge, 16 KB: 265 µs (github.com/suket22/aws-efa-eks), taken as an upper bound: " +
      "of 256 B it was 176 µs in 2026 (github.com/dstackai/dstack/pull/3865), and 57 µs on two p6-b200 (…/3961)",
  },
  TCP: {
    name: "TCP",
    allReduceSeconds: 60e-6,
    secondsPerByte: perByte(1.25e9),
    source:
      "the embedded engine's ranks as processes of one host: some 60 µs (docs/ARCHITECTURE.md); hosts are further apart",
  },
  "shared memory": {
    name: "shared memory",
    allReduceSeconds: 33e-6,
    secondsPerByte: perByte(10e9),
    source: "threads that wait with Atomics.wait: 12 to 33 µs; 1.2 µs while they spin",
  },
} as const satisfies Record<string, Link>;

/** An all-reduce of so many bytes, seconds. */
export function allReduceSeconds(link: Link, bytes: number): number {
  const measuredBytes = 16_384;
  return link.allReduceSeconds + Math.max(0, bytes - measuredBytes) * link.secondsPerByte;
}

/**
 * From one stage of the pipeline to the next, seconds. Nobody has published it for such messages; an
 * all-reduce between two nodes crosses the network twice at least, there and back, so half of its time is
 * a bound from above.
 */
export function hopSeconds(link: Link, bytes: number): number {
  return allReduceSeconds(link, bytes) / 2;
}
