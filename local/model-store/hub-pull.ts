import { basename, join } from "node:path";
import { checkGgufStart, checkTexts, ggufProbeBytes, readJson } from "./check-model.ts";
import { arrivedBytes, downloadFile } from "./download.ts";
import { commitOf, contentAddress, filesOf, type RemoteFile } from "./hub-api.ts";
import type { Hub } from "./hub-http.ts";
import type { ManifestFile } from "./manifest.ts";
import type { HubSource } from "./model-source.ts";
import { checkSpace, type PullOptions, pull } from "./pull.ts";
import type { TellPull } from "./pull-events.ts";
import { selectFiles, selectWeights } from "./select-files.ts";

const indexName = "model.safetensors.index.json";

/**
 * Pulls a model from the hub. What describes it comes first and is checked, so that no weights are
 * downloaded of a model that does not run. Throws ModelStoreError.
 */
export async function pullFromHub(
  source: HubSource,
  options: PullOptions,
  hub: Hub,
): Promise<void> {
  const commit = await commitOf(hub, source);
  const files = await filesOf(hub, source, commit);
  const selection = selectFiles(source.id, files, source.file);
  const file = selection.layout === "gguf" ? { file: selection.file.path } : {};
  const { id, revision } = source;
  await pull(
    {
      source,
      name:
        selection.layout === "gguf"
          ? basename(selection.file.path, ".gguf")
          : id.replace("/", "--"),
      origin: { kind: "hub", endpoint: hub.endpoint, id, revision, commit, ...file },
      isUnchanged: ({ manifest }) =>
        manifest.source.kind === "hub" && manifest.source.commit === commit,
      fetchFiles: (folder, name) => {
        const job = { hub, source, commit, folder, name, storeDir: options.storeDir };
        return selection.layout === "gguf"
          ? fetchGguf(job, selection.file)
          : fetchFolder(job, files, selection.texts);
      },
    },
    options,
  );
}

interface Job {
  hub: Hub;
  source: HubSource;
  commit: string;
  folder: string;
  name: string;
  storeDir: string;
}

async function fetchGguf(job: Job, file: RemoteFile): Promise<ManifestFile[]> {
  const progress = planned(job, [file]);
  await checkSpace(job.storeDir, progress.missingBytes());
  const { sizeBytes } = file;
  const check = (partPath: string) =>
    checkGgufStart(job.name, { partPath, fileName: basename(file.path), sizeBytes });
  return [
    await fetchFile(job, file, progress, {
      probe: { afterBytes: Math.min(ggufProbeBytes, sizeBytes), check },
    }),
  ];
}

async function fetchFolder(
  job: Job,
  files: readonly RemoteFile[],
  texts: readonly RemoteFile[],
): Promise<ManifestFile[]> {
  const done: ManifestFile[] = [];
  // The index comes first: it tells which files there are, and so how much there is to do.
  const index = texts.find(({ path }) => path === indexName);
  if (index !== undefined) done.push(await fetchFile(job, index, planned(job, [index])));
  const weights = selectWeights(job.source.id, files, readJson(job.folder, indexName));
  const progress = planned(job, [...texts, ...weights]);
  for (const file of texts) {
    if (file !== index) done.push(await fetchFile(job, file, progress));
  }
  await checkTexts(job.source.id, job.folder);
  await checkSpace(job.storeDir, progress.missingBytes());
  for (const file of weights) done.push(await fetchFile(job, file, progress));
  return done;
}

async function fetchFile(
  { hub, source, commit, folder }: Job,
  remote: RemoteFile,
  progress: Progress,
  more: { probe?: { afterBytes: number; check: (partPath: string) => Promise<void> } } = {},
): Promise<ManifestFile> {
  const name = basename(remote.path);
  return downloadFile({
    ...{ hub, source, remote, ...more },
    address: contentAddress(hub, source.id, commit, remote.path),
    path: join(folder, name),
    onBytes: (bytes) => progress.tell(name, bytes),
  });
}

interface Progress {
  missingBytes: () => number;
  tell: (file: string, doneBytes: number) => void;
}

/** Tells of these files as one sum. */
function planned({ folder, hub }: Job, files: readonly RemoteFile[]): Progress {
  const done = new Map(
    files.map((file) => {
      const name = basename(file.path);
      return [name, arrivedBytes(join(folder, name), file)];
    }),
  );
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const doneBytes = () => [...done.values()].reduce((sum, bytes) => sum + bytes, 0);
  const tell: TellPull = hub.tell;
  tell({ type: "planned", files: files.length, sizeBytes, doneBytes: doneBytes() });
  return {
    missingBytes: () => sizeBytes - doneBytes(),
    tell(file, bytes) {
      done.set(file, bytes);
      tell({ type: "progress", file, doneBytes: doneBytes(), sizeBytes });
    },
  };
}
