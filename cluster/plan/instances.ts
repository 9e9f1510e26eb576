/**
 * The machines that a revision may run on: what of them memory and time depend on.
 *
 * vCPUs, memory, GPU memory and EFA cards are what EC2's DescribeInstanceTypes says, as Karpenter's
 * reference prints it (karpenter.sh/docs/reference/instance-types, August 2026). Bandwidth and FLOPS
 * are those of NVIDIA's data sheets, without sparsity.
 */

interface Gpu {
  name: string;
  /** All of it, before the driver takes its part. */
  memoryBytes: number;
  /** Between the GPU and its own memory. */
  bytesPerSecond: number;
  /** Dense matrix products in bf16. */
  flops: number;
}

/** What joins the GPUs of one node. */
type NodeLink = "NVLink" | "PCIe";

export interface InstanceType {
  name: string;
  vcpus: number;
  memoryBytes: number;
  /** Cores, of which a rank of the embedded engine takes one. */
  cores: number;
  gpus?: { gpu: Gpu; count: number; link: NodeLink };
  /** Cards for EFA; 0 where nodes can talk over TCP only. */
  efaCards: number;
  /** Share of the socket's memory bandwidth. */
  memoryBytesPerSecond?: number;
  /** Where capacity blocks of it are sold. */
  blockRegions: readonly string[];
}

const MiB = 2 ** 20;
const GB = 1e9;
const TFLOPS = 1e12;

const a100 = { bytesPerSecond: 1_555 * GB, flops: 312 * TFLOPS };
const gpus = {
  a100: { name: "A100 40 GB", memoryBytes: 40_960 * MiB, ...a100 },
  a100Large: {
    ...{ name: "A100 80 GB", memoryBytes: 81_920 * MiB, ...a100 },
    bytesPerSecond: 2_039 * GB,
  },
  h100: {
    ...{ name: "H100 80 GB", memoryBytes: 81_920 * MiB },
    ...{ bytesPerSecond: 3_350 * GB, flops: 989 * TFLOPS },
  },
  h200: {
    ...{ name: "H200 141 GB", memoryBytes: 144_384 * MiB },
    ...{ bytesPerSecond: 4_800 * GB, flops: 989 * TFLOPS },
  },
  a10g: {
    ...{ name: "A10G 24 GB", memoryBytes: 22_888 * MiB },
    ...{ bytesPerSecond: 600 * GB, flops: 70 * TFLOPS },
  },
  l4: {
    ...{ name: "L4 24 GB", memoryBytes: 22_888 * MiB },
    ...{ bytesPerSecond: 300 * GB, flops: 121 * TFLOPS },
  },
  l40s: {
    ...{ name: "L40S 48 GB", memoryBytes: 45_776 * MiB },
    ...{ bytesPerSecond: 864 * GB, flops: 362 * TFLOPS },
  },
} satisfies Record<string, Gpu>;

/** As of 2026-01-31 (aws.amazon.com/ec2/capacityblocks/pricing). */
const blocks = {
  p4d: ["us-east-1", "us-east-2", "us-west-2"],
  p4de: ["us-east-1", "us-west-2"],
  p5: [
    ...["us-east-1", "us-east-2", "us-west-1", "us-west-2", "sa-east-1", "eu-north-1", "eu-west-2"],
    ...["ap-south-1", "ap-southeast-2", "ap-southeast-3", "ap-northeast-1"],
  ],
  p5en: [
    ...["us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-north-1", "eu-west-2"],
    ...["eu-south-2", "ap-south-1", "ap-southeast-3", "ap-northeast-1", "ap-northeast-2"],
  ],
};

function gpuNode(
  name: string,
  [vcpus, memoryMiB]: readonly [number, number],
  [gpu, count, link]: readonly [Gpu, number, NodeLink],
  efaCards: number,
  blockRegions: readonly string[] = [],
): InstanceType {
  const node = { name, vcpus, cores: vcpus / 2, memoryBytes: memoryMiB * MiB };
  return { ...node, gpus: { gpu, count, link }, efaCards, blockRegions };
}

/**
 * c7a has a core for each vCPU, c7i two threads to a core. The bandwidth is the peak of the socket's
 * DDR5-4800 (12 channels for 96 cores of EPYC 9R14, 8 for 48 of Xeon 8488C), by share of its vCPUs.
 */
function cpuNode(name: string, vcpus: number, memoryMiB: number): InstanceType {
  const isAmd = name.startsWith("c7a");
  const perVcpu = isAmd ? (12 * 38.4 * GB) / 96 : (8 * 38.4 * GB) / 96;
  return {
    ...{ name, vcpus, cores: isAmd ? vcpus : vcpus / 2, memoryBytes: memoryMiB * MiB },
    ...{ efaCards: vcpus === 192 ? 1 : 0, memoryBytesPerSecond: perVcpu * vcpus, blockRegions: [] },
  };
}

export const instanceTypes: readonly InstanceType[] = [
  gpuNode("p4d.24xlarge", [96, 1_179_648], [gpus.a100, 8, "NVLink"], 4, blocks.p4d),
  gpuNode("p4de.24xlarge", [96, 1_179_648], [gpus.a100Large, 8, "NVLink"], 4, blocks.p4de),
  gpuNode("p5.48xlarge", [192, 2_097_152], [gpus.h100, 8, "NVLink"], 32, blocks.p5),
  gpuNode("p5en.48xlarge", [192, 2_097_152], [gpus.h200, 8, "NVLink"], 16, blocks.p5en),
  gpuNode("g5.xlarge", [4, 16_384], [gpus.a10g, 1, "PCIe"], 0),
  gpuNode("g5.12xlarge", [48, 196_608], [gpus.a10g, 4, "PCIe"], 1),
  gpuNode("g5.48xlarge", [192, 786_432], [gpus.a10g, 8, "PCIe"], 1),
  gpuNode("g6.xlarge", [4, 16_384], [gpus.l4, 1, "PCIe"], 0),
  gpuNode("g6.12xlarge", [48, 196_608], [gpus.l4, 4, "PCIe"], 1),
  gpuNode("g6.48xlarge", [192, 786_432], [gpus.l4, 8, "PCIe"], 1),
  gpuNode("g6e.xlarge", [4, 32_768], [gpus.l40s, 1, "PCIe"], 0),
  gpuNode("g6e.12xlarge", [48, 393_216], [gpus.l40s, 4, "PCIe"], 1),
  gpuNode("g6e.48xlarge", [192, 1_572_864], [gpus.l40s, 8, "PCIe"], 4),
  cpuNode("c7a.4xlarge", 16, 32_768),
  cpuNode("c7a.12xlarge", 48, 98_304),
  cpuNode("c7a.24xlarge", 96, 196_608),
  cpuNode("c7a.48xlarge", 192, 393_216),
  cpuNode("c7i.4xlarge", 16, 32_768),
  cpuNode("c7i.12xlarge", 48, 98_304),
  cpuNode("c7i.24xlarge", 96, 196_608),
  cpuNode("c7i.48xlarge", 192, 393_216),
];

/** Undefined when the name is not in the table. */
export function findInstanceType(name: string): InstanceType | undefined {
  return instanceTypes.find((type) => type.name === name);
}
