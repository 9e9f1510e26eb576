import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ClientFrame } from "../../events/frames.ts";
import { accepted, done, type ScriptedConnection, tokens } from "./scripted-server.ts";

export const root = join(import.meta.dirname, "..", "..");

/** Builds the package's entries, and gives a folder of somebody who has it installed. */
export function installedPackage(): string {
  execFileSync("npm", ["run", "--silent", "build:client"], { cwd: root, stdio: "inherit" });
  const folder = mkdtempSync(join(tmpdir(), "axon-consumer-"));
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(root, join(folder, "node_modules", "axon"));
  for (const name of ["react", "react-dom", "scheduler"]) {
    symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name));
  }
  return folder;
}

/** The examples of docs/CLIENT.md, with what each is to print. */
export function examples(language: "ts" | "tsx"): { code: string; output: string }[] {
  const text = readFileSync(join(root, "docs", "CLIENT.md"), "utf8");
  const pattern = new RegExp(
    `\`\`\`${language} example\\n([^]*?)\`\`\`\\n(?:\\n\`\`\`text output\\n([^]*?)\`\`\`)?`,
    "g",
  );
  return [...text.matchAll(pattern)].map(([, code = "", output = ""]) => ({ code, output }));
}

/** A server that counts, to three or for ever, as it is asked; each turn can be resumed and cancelled. */
export function countingServer() {
  const running = new Map<string, { seq: number; watchers: Set<ScriptedConnection> }>();
  return (frame: ClientFrame, connection: ScriptedConnection): void => {
    if (frame.action === "chat") {
      const { requestId, prompt } = frame;
      if (prompt.trim() === "") {
        const message = "prompt: must not be empty.";
        const details = { field: "prompt", requestId, retryable: false };
        connection.send({ type: "error", code: "invalid_field", message, ...details });
        return;
      }
      const turnId = `turn-${requestId}`;
      connection.send(accepted(requestId, turnId));
      if (prompt.includes("for ever")) {
        const turn = { seq: 0, watchers: new Set([connection]) };
        running.set(turnId, turn);
        setInterval(() => {
          turn.seq++;
          for (const watcher of turn.watchers) watcher.send(tokens(turnId, turn.seq, turn.seq));
        }, 10).unref();
      } else {
        connection.send(tokens(turnId, 1, 3));
        connection.send(done(turnId, 3));
      }
      return;
    }
    const turn = running.get(frame.turnId);
    if (turn === undefined) return;
    if (frame.action === "resume") {
      if (turn.seq > frame.after) connection.send(tokens(frame.turnId, frame.after + 1, turn.seq));
      turn.watchers.add(connection);
    } else {
      for (const watcher of turn.watchers) {
        const end = done(frame.turnId, turn.seq);
        watcher.send({ ...end, finishReason: "cancelled" } as typeof end);
      }
      running.delete(frame.turnId);
      turn.watchers.clear();
    }
  };
}
