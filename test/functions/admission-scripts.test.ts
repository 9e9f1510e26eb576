import { Redis } from "ioredis";
import { beforeAll } from "vitest";
import { freshRedis } from "../support/parts.ts";
import { admissionScriptsContract } from "./admission-scripts.contract.ts";

let url: string;
beforeAll(async () => {
  url = await freshRedis();
});

admissionScriptsContract(() => new Redis(url));
