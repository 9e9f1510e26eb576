import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { describeModel } from "../../local/model.ts";
import { findModel } from "../../local/model-store/find-model.ts";
import { type Hub, hubFromEnvironment } from "../../local/model-store/hub-http.ts";
import { pullFromHub } from "../../local/model-store/hub-pull.ts";
import { namePattern, readManifest } from "../../local/model-store/manifest.ts";
import { parseModelSource } from "../../local/model-store/model-source.ts";
import { pullFromPath } from "../../local/model-store/path-pull.ts";
import type { PullEvent } from "../../local/model-store/pull-events.ts";
import { removeModel } from "../../local/model-store/remove-model.ts";
import { selectFiles, selectWeights } from "../../local/model-store/select-files.ts";
import { listStore, modelsDir, pullingPath } from "../../local/model-store/store-folder.ts";
import { eventually } from "../support/eventually.ts";
import { guideFiles, shardedGuideFiles, smallGguf } from "../support/hub-models.ts";
import { type HubServer, hubToken, startHub } from "../support/hub-server.ts";

let hub: HubServer;
let folder: string;
let storeDir: string;
let events: PullEvent[];
let stop: AbortController;

beforeEach(async () => {
  hub = await startHub();
  folder = mkdtempSync(join(tmpdir(), "axon-store-"));
  storeDir = join(folder, "store");
  events = [];
  stop = new AbortController();
});
afterEach(async () => {
  await hub.close();
  rmSync(folder, { recursive: true });
});

async function pull(text: string, more: Partial<Hub> & { name?: string } = {}): Promise<void> {
  const tell = (event: PullEvent) => void events.push(event);
  const { name, ...hubMore } = more;
  const options = { storeDir, signal: stop.signal, tell, name };
  const source = parseModelSource(text);
  if (source.kind === "path") return pullFromPath(source, options);
  const endpoint = hub.url;
  const waits = { retryMs: 1, stallMs: 10_000 };
  await pullFromHub(source, options, { endpoint, ...waits, signal: stop.signal, tell, ...hubMore });
}

const files = guideFiles();
const weights = "model.safetensors";
const weightBytes = files[weights]?.length ?? 0;
const place = () => join(storeDir, "acme--guide");
const kinds = () => events.map(({ type }) => type);
/** Of large files, which take long to compare byte by byte. */
const hashOf = (content: Buffer | undefined) =>
  createHash("sha256")
    .update(content ?? "")
    .digest("hex");
const storedHash = (...names: string[]) => hashOf(readFileSync(join(...names)));
const requested = (path: string) => hub.requests.filter(({ url }) => url.includes(path));
const ranges = () => requested(`/${weights}?`).map(({ range }) => range);

describe("a pull from the hub", () => {
  test("brings what is needed, checked, and nothing else", async () => {
    const commit = hub.publish("acme/guide", files);
    await pull("acme/guide");
    const manifest = readManifest(place());
    expect(manifest).toMatchObject({
      source: { kind: "hub", id: "acme/guide", revision: "main", commit, endpoint: hub.url },
      parameters: 3_476_224,
      contextTokens: 1024,
    });
    const names = manifest.files.map(({ name }) => name).sort();
    expect(names).toEqual([
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    for (const { name, sha256 } of manifest.files) {
      expect([sha256, storedHash(place(), name)]).toEqual(Array(2).fill(hashOf(files[name])));
    }
    expect(requested("onnx").concat(requested("pytorch"), requested("README"))).toEqual([]);
    expect(describeModel(findModel("acme/guide", storeDir)).model).toBe("acme--guide");
    expect(listStore(storeDir)).toMatchObject({
      models: [{ name: "acme--guide" }],
      broken: [],
      unfinished: [],
    });
    expect(events.at(-1)).toMatchObject({ type: "pulled", unchanged: false });
  });

  test("brings weights in several files by their index", async () => {
    hub.publish("acme/guide", shardedGuideFiles());
    await pull("acme/guide");
    expect(readManifest(place())).toMatchObject({ parameters: 3_476_224 });
    expect(readManifest(place()).files).toHaveLength(7);
  });

  test("brings one GGUF file, by its name, its kind, or as the only one", async () => {
    const gguf = smallGguf();
    hub.publish("acme/guide-GGUF", { "guide-F32.gguf": gguf, "guide-Q8_0.gguf": gguf });
    await expect(pull("acme/guide-GGUF")).rejects.toMatchObject({
      code: "not_found",
      message: expect.stringMatching(
        /several.*guide-F32\.gguf \(\d\.\d\d MB\)\n {2}guide-Q8_0\.gguf/s,
      ),
    });
    await pull("acme/guide-GGUF:q8_0");
    await pull("acme/guide-GGUF:guide-F32.gguf");
    expect(listStore(storeDir).models.map(({ name }) => name)).toEqual(["guide-F32", "guide-Q8_0"]);
    expect(describeModel(findModel("acme/guide-GGUF:guide-F32.gguf", storeDir))).toMatchObject({
      model: "guide-F32",
      contextTokens: 1024,
    });
    hub.publish("acme/one", { "sub/one.gguf": gguf, "mmproj-one.gguf": gguf });
    await pull("acme/one");
    expect(existsSync(join(storeDir, "one", "one.gguf"))).toBe(true);
  });

  test("does nothing when the commit is here, and replaces the model by the next one", async () => {
    hub.publish("acme/guide", files);
    await pull("acme/guide");
    const before = hub.requests.length;
    await pull("acme/guide");
    expect(events.at(-1)).toMatchObject({ type: "pulled", unchanged: true });
    expect(requested("/resolve/").length).toBe(5);
    expect(hub.requests.length - before).toBeLessThan(6);
    const next = { ...files, "generation_config.json": Buffer.from('{"temperature":0.5}') };
    const commit = hub.publish("acme/guide", next);
    await pull("acme/guide");
    expect(readManifest(place()).source).toMatchObject({ commit });
    expect(readFileSync(join(place(), "generation_config.json"), "utf8")).toContain("0.5");
  });

  test("gives the token to the hub, and not to where the hub redirects to", async () => {
    hub.publish("acme/guide", files, { gated: true });
    await pull("acme/guide", { token: hubToken });
    const seen = (server: string) =>
      new Set(
        hub.requests.filter((request) => request.server === server).map((r) => r.authorization),
      );
    expect(seen("hub")).toEqual(new Set([`Bearer ${hubToken}`]));
    expect(seen("content")).toEqual(new Set([undefined]));
    expect(JSON.stringify(events)).not.toContain(hubToken);
    expect(JSON.stringify(readManifest(place()))).not.toContain(hubToken);
  });
});

describe("what fails is tried again", () => {
  test("where the connection is cut, the rest is asked for", async () => {
    hub.publish("acme/guide", files);
    hub.fail(weights, { cutAfter: 1_000_000 }, { cutAfter: 2_000_000 });
    await pull("acme/guide");
    const [first, second, third, ...none] = ranges();
    expect(none).toEqual([]);
    expect(first).toBeUndefined();
    // How much of what was sent has arrived when the connection is cut is for the network to say.
    const starts = [second, third].map((range) => Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1]));
    expect(starts[0]).toBeLessThanOrEqual(1_000_000);
    expect(starts[1]).toBeGreaterThan(starts[0] ?? 0);
    expect(storedHash(place(), weights)).toBe(hashOf(files[weights]));
  });

  test("a server that is busy is given the time that it asks for", async () => {
    hub.publish("acme/guide", files);
    hub.fail("api", { status: 503 });
    hub.fail(weights, { status: 429, retryAfter: "0" }, { status: 500 }, { status: 403 });
    await pull("acme/guide");
    const waits = events.flatMap((event) => (event.type === "retry" ? [event] : []));
    expect(waits.map(({ why }) => why.replace(/.* /, ""))).toEqual(["503", "429", "500", "403"]);
    expect(waits[1]?.afterMs).toBe(0);
    expect(listStore(storeDir).models).toHaveLength(1);
  });

  test("one that asks for an hour is not waited for", async () => {
    hub.publish("acme/guide", files);
    hub.fail(weights, { status: 429, retryAfter: "3600" });
    await expect(pull("acme/guide")).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringContaining("wait for 3600 s"),
    });
  });

  test("a server that sends all of it again starts over", async () => {
    hub.publish("acme/guide", files);
    hub.fail(weights, { cutAfter: 1_000_000 }, { noRange: true });
    await pull("acme/guide");
    const why = "the server sends all of it";
    expect(events).toContainEqual({ type: "startOver", file: weights, why });
    expect(storedHash(place(), weights)).toBe(hashOf(files[weights]));
  });

  test("so does one with another ETag", async () => {
    hub.publish("acme/guide", files);
    hub.fail(weights, { cutAfter: 1_000_000 }, { changed: true });
    await pull("acme/guide");
    const why = "it has changed on the server";
    expect(events).toContainEqual({ type: "startOver", file: weights, why });
  });

  test("a connection that falls silent is given up, and the rest asked for", async () => {
    hub.publish("acme/guide", files);
    hub.fail(weights, { holdAfter: 1_000_000 });
    await pull("acme/guide", { stallMs: 300 });
    expect(kinds()).toContain("retry");
    expect(listStore(storeDir).models).toHaveLength(1);
  });

  test("and given up when nothing comes any more", async () => {
    hub.publish("acme/guide", files);
    hub.fail(weights, ...Array.from({ length: 6 }, () => ({ status: 502 })));
    await expect(pull("acme/guide")).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(/127\.0\.0\.1:\d+ .*answered 502.*HF_ENDPOINT/),
    });
    expect(listStore(storeDir)).toMatchObject({
      models: [],
      unfinished: [{ name: "acme--guide", source: "acme/guide" }],
    });
    await pull("acme/guide");
    expect(listStore(storeDir).unfinished).toEqual([]);
  });
});

describe("a pull that was stopped", () => {
  test("goes on where it was, unless the file is another one by then", async () => {
    hub.publish("acme/guide", files);
    const half = async () => {
      hub.fail(weights, { holdAfter: 3_000_000 });
      const pulling = pull("acme/guide");
      const part = join(pullingPath(storeDir, "acme--guide"), `${weights}.part`);
      await eventually(() => existsSync(part) && statSync(part).size === 3_000_000);
      stop.abort();
      await expect(pulling).rejects.toMatchObject({ code: "interrupted" });
      stop = new AbortController();
      events = [];
    };
    await half();
    expect(listStore(storeDir).models).toEqual([]);
    await pull("acme/guide");
    expect(ranges()).toEqual([undefined, "bytes=3000000-"]);
    removeModel(storeDir, "acme--guide");

    await half();
    const other = Buffer.from(files[weights] ?? []);
    other.writeUInt16LE(7, other.length - 2);
    hub.publish("acme/guide", { ...files, [weights]: other });
    await pull("acme/guide");
    expect(ranges().at(-1)).toBeUndefined();
    expect(storedHash(place(), weights)).toBe(hashOf(other));
    // The small files were not asked for again.
    expect(requested("tokenizer.json")).toHaveLength(2);
  });

  test("is not believed: bytes that were damaged meanwhile are found", async () => {
    hub.publish("acme/guide", files);
    hub.fail(weights, { cutAfter: 500_000 }, ...Array.from({ length: 6 }, () => ({ status: 500 })));
    await expect(pull("acme/guide")).rejects.toMatchObject({ code: "unreachable" });
    const part = join(pullingPath(storeDir, "acme--guide"), `${weights}.part`);
    const damaged = readFileSync(part);
    damaged.fill(0, 1_000, 2_000);
    writeFileSync(part, damaged);
    await expect(pull("acme/guide")).rejects.toMatchObject({ code: "checksum" });
    expect(existsSync(part)).toBe(false);
    await pull("acme/guide");
    expect(storedHash(place(), weights)).toBe(hashOf(files[weights]));
  });
});

describe("what is not as announced is deleted", () => {
  const small = "tokenizer.json";
  test.each([
    ["other bytes of a large file", weights, { wrong: true }],
    ["other bytes of a small file", small, { wrong: true }],
    ["more bytes than announced", weights, { extra: 5 }],
  ] as const)("%s", async (_what, file, fault) => {
    hub.publish("acme/guide", files);
    hub.fail(file, fault);
    await expect(pull("acme/guide")).rejects.toMatchObject({
      code: "checksum",
      message: expect.stringContaining(file),
    });
    const left = join(pullingPath(storeDir, "acme--guide"), file);
    expect([existsSync(left), existsSync(`${left}.part`)]).toEqual([false, false]);
    expect(listStore(storeDir).models).toEqual([]);
  });

  test("a length that is not the announced one ends it before the content", async () => {
    hub.publish("acme/guide", files, { announcedSizes: { [weights]: weightBytes - 1 } });
    await expect(pull("acme/guide")).rejects.toMatchObject({
      code: "checksum",
      message: expect.stringContaining(`${weightBytes} bytes instead of the ${weightBytes - 1}`),
    });
  });
});

describe("what cannot be had is said", () => {
  test.each([
    ["acme/none", {}, "gated", /no model acme\/none.*HF_TOKEN/],
    ["acme/guide@v9", {}, "not_found", /no revision v9/],
    ["acme/gated", {}, "gated", /accept its licence at .*acme\/gated, then set HF_TOKEN/],
    ["acme/gated", { token: "hf_wrong" }, "gated", /account of HF_TOKEN may not have it/],
  ])("%s %j", async (text, more, code, message) => {
    hub.publish("acme/guide", files);
    hub.publish("acme/gated", files, { gated: true });
    await expect(pull(text, more)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
    expect(existsSync(storeDir)).toBe(false);
  });

  test("no network", async () => {
    const endpoint = hub.url;
    await hub.close();
    await expect(pull("acme/guide", { endpoint })).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(/ECONNREFUSED.*Check the network/),
    });
    hub = await startHub();
  });

  test("no hub at all", async () => {
    hub.publish("acme/guide", files);
    const endpoint = `${hub.url}/acme/guide/resolve/main/x/..`;
    await expect(pull("acme/guide", { endpoint })).rejects.toMatchObject({
      code: expect.stringMatching(/bad_answer|not_found/),
    });
  });

  test("no room", async () => {
    hub.publish("acme/guide", files, { announcedSizes: { [weights]: 8e15 } });
    await expect(pull("acme/guide")).rejects.toMatchObject({
      code: "no_space",
      message: expect.stringMatching(/^8.00 PB more are needed/),
    });
    expect(ranges()).toEqual([]);
  });
});

describe("what does not run here is refused before its weights come", () => {
  const changed = (name: string, change: object) => {
    const json: object = JSON.parse(files[name]?.toString() ?? "{}");
    return { ...files, [name]: Buffer.from(JSON.stringify({ ...json, ...change })) };
  };
  const without = (name: string) =>
    Object.fromEntries(Object.entries(files).filter(([file]) => file !== name));
  test.each([
    [
      "another architecture",
      changed("config.json", { architectures: ["Qwen2ForCausalLM"] }),
      /architectures is \["Qwen2ForCausalLM"\]/,
    ],
    [
      "quantized safetensors",
      changed("config.json", { quantization_config: { quant_method: "fp8" } }),
      /quantization_config/,
    ],
    ["no tokenizer", without("tokenizer.json"), /lacks tokenizer\.json/],
    [
      "no chat template",
      changed("tokenizer_config.json", { chat_template: null }),
      /no chat template/,
    ],
    ["no weights that we read", without(weights), /neither model\.safetensors/],
  ])("%s", async (_what, published, why) => {
    hub.publish("acme/guide", published);
    await expect(pull("acme/guide")).rejects.toMatchObject({
      code: "unsupported_model",
      message: expect.stringMatching(why),
    });
    expect(ranges()).toEqual([]);
    expect(listStore(storeDir)).toEqual({ models: [], broken: [], unfinished: [] });
  });

  test("a GGUF file by its first bytes", async () => {
    const start = smallGguf({ "general.architecture": "qwen2" });
    const large = Buffer.concat([start, Buffer.alloc(20 << 20)]);
    hub.publish("acme/large", { "large.gguf": large });
    hub.fail("large.gguf", { holdAfter: 17 << 20 });
    await expect(pull("acme/large")).rejects.toMatchObject({
      code: "unsupported_model",
      message: expect.stringContaining("qwen2"),
    });
    expect(listStore(storeDir).unfinished).toEqual([]);
  });

  test("a sound one passes that look", async () => {
    const large = Buffer.concat([smallGguf(), Buffer.alloc(20 << 20)]);
    hub.publish("acme/large", { "large.gguf": large });
    await pull("acme/large");
    expect(readManifest(join(storeDir, "large")).files).toMatchObject([{ name: "large.gguf" }]);
  });

  test("one of several parts", async () => {
    hub.publish("acme/split", { "big-00001-of-00002.gguf": smallGguf() });
    await expect(pull("acme/split")).rejects.toMatchObject({
      code: "unsupported_model",
      message: expect.stringContaining("--merge"),
    });
  });
});

describe("a pull from a path", () => {
  const guide = findModel("axon-guide");

  test("links a folder's files, through symbolic links as in other caches", async () => {
    const blobs = join(folder, "blobs");
    const snapshot = join(folder, "Snapshot_1");
    for (const path of [blobs, snapshot]) mkdirSync(path);
    for (const [name, content] of Object.entries(files)) {
      if (name.includes("/")) continue;
      writeFileSync(join(blobs, name), content);
      symlinkSync(join("..", "blobs", name), join(snapshot, name));
    }
    await pull(snapshot);
    const stored = join(storeDir, "Snapshot_1");
    expect(statSync(join(stored, weights)).ino).toBe(statSync(join(blobs, weights)).ino);
    expect(existsSync(join(stored, "README.md"))).toBe(false);
    expect(readManifest(stored).source).toEqual({ kind: "path", path: snapshot });
    removeModel(storeDir, "Snapshot_1");
    expect(storedHash(blobs, weights)).toBe(hashOf(files[weights]));
  });

  test("takes a GGUF file", async () => {
    const path = join(folder, "tiny.Q8.gguf");
    writeFileSync(path, smallGguf());
    await pull(path);
    expect(findModel("tiny.Q8", storeDir)).toBe(join(storeDir, "tiny.Q8"));
  });

  test("refuses what is no model, and a name that is taken", async () => {
    await expect(pull(folder)).rejects.toMatchObject({ code: "unsupported_model" });
    await expect(pull(join(folder, "none"))).rejects.toMatchObject({ code: "not_found" });
    await expect(pull(guide)).rejects.toMatchObject({ code: "name_taken" });
    await pull(guide, { name: "mine" });
    hub.publish("acme/guide", files);
    await expect(pull("acme/guide", { name: "mine" })).rejects.toMatchObject({
      code: "name_taken",
      message: expect.stringContaining("axon models rm mine"),
    });
    mkdirSync(join(storeDir, "acme--guide"));
    writeFileSync(join(storeDir, "acme--guide", "notes.txt"), "mine");
    await expect(pull("acme/guide")).rejects.toMatchObject({ code: "name_taken" });
    expect(existsSync(join(storeDir, "acme--guide", "notes.txt"))).toBe(true);
    await expect(pull("acme/guide", { name: "../out" })).rejects.toMatchObject({
      code: "invalid_source",
    });
  });
});

describe("the store", () => {
  test("lists a damaged model as such, and does not find it", async () => {
    hub.publish("acme/guide", files);
    await pull("acme/guide");
    writeFileSync(join(place(), weights), "short");
    expect(listStore(storeDir)).toMatchObject({
      models: [],
      broken: [{ name: "acme--guide", why: expect.stringContaining(weights) }],
    });
    expect(() => findModel("acme--guide", storeDir)).toThrow(/no model in the store/);
    await pull("acme/guide");
    expect(listStore(storeDir).models).toHaveLength(1);
  });

  test("does not follow links out of it", async () => {
    hub.publish("acme/guide", files);
    await pull("acme/guide");
    const outside = join(folder, "outside");
    mkdirSync(outside);
    symlinkSync(place(), join(storeDir, "linked"));
    expect(listStore(storeDir).models.map(({ name }) => name)).toEqual(["acme--guide"]);
    expect(() => removeModel(storeDir, "linked")).toThrow(/no model "linked"/);
    expect(() => removeModel(storeDir, "../outside")).toThrow(/no model/);
    expect(existsSync(outside)).toBe(true);
    rmSync(join(place(), weights));
    symlinkSync(join(outside, weights), join(place(), weights));
    expect(listStore(storeDir).models).toEqual([]);
  });

  test("lets one process pull a model at a time", async () => {
    hub.publish("acme/guide", files);
    hub.fail(weights, { holdAfter: 1_000 });
    const first = pull("acme/guide");
    await eventually(() => ranges().length === 1);
    await expect(pull("acme/guide")).rejects.toMatchObject({
      code: "busy",
      message: expect.stringContaining(`pid ${process.pid}`),
    });
    expect(() => removeModel(storeDir, "acme--guide")).toThrow(/at this moment/);
    hub.release();
    await first;
    removeModel(storeDir, "acme--guide");
    expect(listStore(storeDir)).toEqual({ models: [], broken: [], unfinished: [] });
  });

  test("is where the environment says", () => {
    expect(modelsDir({ AXON_MODELS_DIR: "/data/m", XDG_CACHE_HOME: "/c" })).toBe("/data/m");
    expect(modelsDir({ XDG_CACHE_HOME: "/c" })).toBe("/c/axon/models");
    expect(modelsDir({ XDG_CACHE_HOME: "relative" })).toMatch(/\/\.cache\/axon\/models$/);
  });
});

describe("names are not trusted", () => {
  const repository = "acme/guide";
  const nasty = fc.oneof(
    fc.string(),
    fc.constantFrom("../x", "/etc/x", "a/../../x", "..", "x\0y", "\x1b[2Jx", "-rf"),
  );

  test("what is selected is a file of the list, with a plain name", () => {
    const sized = (path: string) => ({ path, sizeBytes: 1 });
    fc.assert(
      fc.property(fc.array(nasty), fc.option(nasty, { nil: undefined }), (names, wanted) => {
        const all = names.flatMap((name) => [sized(name), sized(`${name}.gguf`)]);
        try {
          const selection = selectFiles(repository, all, wanted);
          if (selection.layout === "gguf") {
            expect(selection.file.path.split("/").at(-1)).toMatch(namePattern);
          }
        } catch (error) {
          expect(error).toHaveProperty("name", "ModelStoreError");
          // Nothing that a terminal would obey.
          expect(String(error).replaceAll("\n", "")).toMatch(/^\P{Cc}*$/u);
        }
      }),
    );
  });

  test("an index names files beside it", () => {
    fc.assert(
      fc.property(nasty, (name) => {
        const file = { path: `${name}.safetensors`, sizeBytes: 1 };
        const index = { weight_map: { tensor: file.path } };
        let selected: { path: string }[] = [];
        try {
          selected = selectWeights(repository, [file], index);
        } catch (error) {
          expect(error).toHaveProperty("code", "unsupported_model");
        }
        for (const { path } of selected) expect(path).toMatch(namePattern);
      }),
    );
  });

  test("an id of the hub has no part that leads elsewhere", () => {
    fc.assert(
      fc.property(
        fc.array(nasty, { maxLength: 4 }),
        fc.constantFrom("/", "@", ":"),
        (parts, by) => {
          try {
            const source = parseModelSource(`acme/${parts.join(by)}`);
            if (source.kind !== "hub") return;
            expect(source.id.replace("/", "--")).toMatch(namePattern);
            expect(source.revision.split("/")).not.toContain("..");
          } catch (error) {
            expect(error).toHaveProperty("name", "ModelStoreError");
          }
        },
      ),
    );
  });

  test("an endpoint is an address without a password, a token is plain", () => {
    expect(hubFromEnvironment({})).toEqual({ endpoint: "https://huggingface.co" });
    expect(hubFromEnvironment({ HF_ENDPOINT: "http://h:1/x/", HF_TOKEN: " t\n" })).toEqual({
      ...{ endpoint: "http://h:1/x", token: "t" },
    });
    for (const HF_ENDPOINT of ["nonsense", "file:///x", "https://user:secret@host"]) {
      expect(() => hubFromEnvironment({ HF_ENDPOINT })).toThrow(/HF_ENDPOINT/);
    }
    expect(() => hubFromEnvironment({ HF_TOKEN: "a\nb: c" })).toThrow(/^HF_TOKEN holds/);
  });
});
