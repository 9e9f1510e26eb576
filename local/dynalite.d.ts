declare module "dynalite" {
  import type { Server } from "node:http";

  /** An emulator of DynamoDB; it keeps its tables under `path`, or in memory without one. */
  function dynalite(options: {
    path?: string;
    createTableMs?: number;
    deleteTableMs?: number;
  }): Server;
  export = dynalite;
}
