import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { NcclGate, transportIn } from "../../dataplane/nccl-gate.ts";

const prefix = "ip-10-0-1-7:412:412 [0] NCCL INFO";
const bootstrap = `${prefix} Bootstrap : Using eth0:10.0.1.7<0>`;

const logs = {
  current: [
    bootstrap,
    `${prefix} NET/Plugin: Loaded net plugin Libfabric (v10)`,
    `${prefix} NET/OFI Selected provider is efa, fabric is efa-direct (found 4 nics)`,
    `${prefix} Using network Libfabric`,
    `${prefix} Channel 00/0 : 8[0] -> 0[0] [receive] via NET/Libfabric/0/GDRDMA`,
  ],
  older: [
    bootstrap,
    `${prefix} NET/OFI Selected Provider is efa (found 4 nics)`,
    `${prefix} Using network AWS Libfabric`,
    `${prefix} Channel 00/0 : 8[0] -> 0[0] [receive] via NET/AWS Libfabric/0/GDRDMA`,
  ],
  noPlugin: [
    bootstrap,
    `${prefix} NET/Plugin: Could not find: libnccl-net.so. Using internal net plugin.`,
    `${prefix} NET/IB : No device found.`,
    `${prefix} NET/Socket : Using [0]eth0:10.0.1.7<0>`,
    `${prefix} Using network Socket`,
  ],
  channelOnly: [bootstrap, `${prefix} Channel 00 : 8[0] -> 0[0] [receive] via NET/Socket/0`],
  otherProvider: [
    bootstrap,
    `${prefix} NET/OFI Selected provider is tcp;ofi_rxm, fabric is 10.0.0.0/16 (found 1 nics)`,
    `${prefix} Using network Libfabric`,
  ],
  early: [bootstrap, `${prefix} Channel 00 : 0[0] -> 1[1] via P2P/IPC`],
};

test.each([
  ["current", "efa"],
  ["older", "efa"],
  ["noPlugin", "other"],
  ["channelOnly", "other"],
  ["otherProvider", "other"],
  ["early", "unknown"],
] as const)("the log %s tells of the network: %s", (name, transport) => {
  expect(transportIn(logs[name].join("\n")).transport).toBe(transport);
});

test("one process on sockets is one too many", async () => {
  const folder = mkdtempSync(join(tmpdir(), "axon-nccl-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const gate = new NcclGate(folder);
  expect(await gate.check()).toBe("unknown");
  await expect(gate.pass()).rejects.toMatchObject({ code: "slow_network" });
  writeFileSync(join(folder, "node.1.log"), logs.current.join("\n"));
  expect(await gate.check()).toBe("efa");
  await gate.pass();
  writeFileSync(join(folder, "node.2.log"), logs.noPlugin.join("\n"));
  await expect(gate.check()).rejects.toThrow(/node\.2\.log says: .*Using network Socket/);
});
