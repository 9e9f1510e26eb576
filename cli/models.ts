import { hubFromEnvironment } from "../local/model-store/hub-http.ts";
import { pullFromHub } from "../local/model-store/hub-pull.ts";
import { parseModelSource } from "../local/model-store/model-source.ts";
import { ModelStoreError } from "../local/model-store/model-store-error.ts";
import { pullFromPath } from "../local/model-store/path-pull.ts";
import type { PullEvent } from "../local/model-store/pull-events.ts";
import { bytesText } from "../local/model-store/quantities.ts";
import { removableBytes, removeModel } from "../local/model-store/remove-model.ts";
import { modelsDir } from "../local/model-store/store-folder.ts";
import { ask } from "./ask.ts";
import { defineCommand, exitCodesHelp } from "./command.ts";
import { listModels, modelTable } from "./model-list.ts";
import { jsonDisplay, textDisplay } from "./pull-display.ts";
import { CommandError } from "./stage.ts";

export const modelsCommand = defineCommand({
  help: `axon models: the models of this machine.

  axon models pull org/name                a model of the Hugging Face hub
  axon models pull org/name@revision       of a branch, tag or commit
  axon models pull org/name:file.gguf      one GGUF file of it; its kind is enough: org/name:Q8_0
  axon models pull PATH                    a folder in Hugging Face's layout, or a .gguf file
  axon models list                         what there is, and where it came from
  axon models rm NAME                      delete a model, or what an unfinished pull has left

Then: npm start -- --model NAME

Options
  --name NAME        pull: the name to keep it under
  --yes              rm: do not ask
  --json             pull: what happens, list: the models, as one JSON object a line

By the environment
  AXON_MODELS_DIR    where models are kept (default ~/.cache/axon/models)
  HF_TOKEN           your token, for models that are gated or private
  HF_ENDPOINT        another hub than https://huggingface.co

A pull that was stopped goes on where it was. docs/MODELS.md says which models run.

${exitCodesHelp}`,
  words: ["pull", "list", "rm"],
  options: {
    name: { type: "string" },
    yes: { type: "boolean", short: "y", default: false },
    json: { type: "boolean", default: false },
  },
  run: models,
});

async function models(
  words: readonly string[],
  { name, yes, json }: { name?: string | undefined; yes: boolean; json: boolean },
): Promise<number> {
  const [action, what, ...more] = words;
  try {
    if (action === "pull" && what !== undefined && more.length === 0) {
      return await pullCommand(what, { name, json });
    }
    if (action === "list" && what === undefined) return await listCommand(json);
    if (action === "rm" && what !== undefined && more.length === 0)
      return await rmCommand(what, yes);
  } catch (error) {
    if (!(error instanceof ModelStoreError)) throw error;
    throw new CommandError(error.message, { cause: error });
  }
  throw new CommandError("Use axon models pull WHAT, list, or rm NAME. Try axon models --help.", {
    exitCode: 2,
  });
}

async function pullCommand(
  what: string,
  { name, json }: { name: string | undefined; json: boolean },
): Promise<number> {
  const { stderr, stdout } = process;
  const display = json ? jsonDisplay(stdout) : textDisplay(stderr);
  const stop = new AbortController();
  let stoppedBy: NodeJS.Signals | undefined;
  const end = (signal: NodeJS.Signals) => {
    stoppedBy ??= signal;
    stop.abort();
  };
  process.on("SIGINT", end);
  process.on("SIGTERM", end);
  const tell = (event: PullEvent) => {
    display.tell(event);
    if (event.type === "pulled" && !json) stdout.write(pulledText(event));
  };
  const options = { storeDir: modelsDir(), name, signal: stop.signal, tell };
  try {
    const source = parseModelSource(what);
    if (source.kind === "path") await pullFromPath(source, options);
    else {
      const hub = hubFromEnvironment(process.env);
      const waits = { retryMs: 500, stallMs: 60_000 };
      await pullFromHub(source, options, { ...hub, ...waits, signal: stop.signal, tell });
    }
    return 0;
  } catch (error) {
    display.end();
    if (!(error instanceof ModelStoreError)) throw error;
    const { code, message } = error;
    if (json) stdout.write(`${JSON.stringify({ type: "failed", code, message })}\n`);
    if (code !== "interrupted") throw error;
    stderr.write(`axon: ${message}\n`);
    return stoppedBy === "SIGTERM" ? 143 : 130;
  } finally {
    process.off("SIGINT", end);
    process.off("SIGTERM", end);
  }
}

function pulledText(event: PullEvent & { type: "pulled" }): string {
  const what = event.unchanged ? "was here already" : "is ready";
  return `${event.name} ${what}: ${bytesText(event.sizeBytes)} in ${event.path}
npm start -- --model ${event.name}
`;
}

async function listCommand(json: boolean): Promise<number> {
  const listed = await listModels(modelsDir());
  if (!json) process.stdout.write(modelTable(listed));
  else for (const model of listed) process.stdout.write(`${JSON.stringify(model)}\n`);
  return 0;
}

async function rmCommand(name: string, yes: boolean): Promise<number> {
  const storeDir = modelsDir();
  const sizeText = bytesText(removableBytes(storeDir, name));
  if (!yes && process.stdin.isTTY) {
    const answer = await ask(`Delete ${name} (${sizeText})? [y/N] `);
    if (answer === undefined) return 130;
    if (!/^y(es)?$/i.test(answer.trim())) return 1;
  }
  removeModel(storeDir, name);
  process.stdout.write(`${name} is deleted (${sizeText}).\n`);
  return 0;
}
