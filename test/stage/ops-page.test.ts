import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Client } from "../../client/client.ts";
import { eventually } from "../support/eventually.ts";
import { browserPath, openBrowser } from "./browser.ts";
import { operator } from "./operator.ts";
import { type Reading, read, recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  leaderOf,
  pidOf,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

/** The operations page in a real browser, on a stage where things go wrong. */

const model = "axon-guide";
const viewerKey = "key-that-may-only-look";
const chatterKey = "key-that-may-only-chat";
const keyOf = (key: string, scopes?: string[]) => ({
  sha256: createHash("sha256").update(key).digest("hex"),
  ...{ tenantId: "local", userId: "somebody", scopes },
});

describe.skipIf(browserPath === undefined)("the operations page", () => {
  let stage: SpawnedStage;
  let url: string;
  let browser: Browser;
  let page: Page;
  let axe: string;
  let client: Client;
  /** The turn whose leader was killed in the middle of it. */
  let survivor: Reading;
  const errors: string[] = [];

  beforeAll(async () => {
    const dataDir = await dataFolder();
    await mkdir(join(dataDir, "revisions"), { recursive: true });
    const revision = { model, path: join("models", model), ranks: 1 };
    await writeFile(join(dataDir, "revisions", "guide-2.json"), JSON.stringify(revision));
    const keys = [keyOf(viewerKey, ["chat", "history", "ops:read"]), keyOf(chatterKey)];
    stage = await spawnStage(dataDir, {
      args: ["--groups", "2", "--tp", "1"],
      env: {
        ...{ AXON_MS_PER_TOKEN: "25", AXON_SETTLE_MS: "500" },
        AXON_API_KEYS: JSON.stringify(keys),
      },
    });
    ({ url } = await stage.file());
    browser = await openBrowser(browserPath ?? "");
    page = await newPage();
    axe = await readFile(join("node_modules", "axe-core", "axe.min.js"), "utf8");
    client = await stage.client();
  }, 90_000);
  afterAll(async () => {
    client?.close();
    await browser?.close();
    await interrupt(stage);
    await removeFolder(stage.dataDir);
  });

  /** A page that signs in with another key than the stage gives out. */
  async function newPage(key?: string): Promise<Page> {
    const opened = await browser.newPage({ viewport: { width: 1_280, height: 900 } });
    opened.on("pageerror", (error) => errors.push(error.message));
    if (key === undefined) return opened;
    await opened.route("**/config.json", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ json: { ...(await response.json()), credential: key } });
    });
    return opened;
  }

  const open = (address: string, on = page) => on.goto(`${url}/${address}`);
  const heading = (name: string, on = page) =>
    on.getByRole("heading", { level: 1, name, exact: true }).waitFor();
  const row = (name: RegExp | string) => page.getByRole("row", { name });

  test("is reached from the chat, and shows how the stage is", async () => {
    await open("#/");
    await page.getByRole("link", { name: "Operations" }).click();
    await heading("Overview");
    await page.getByText("2 ready").waitFor();
    const list = page.getByRole("list", { name: "Figures" });
    expect(await list.getByRole("listitem").count()).toBe(4);
    expect(await page.title()).toBe("Overview · Axon");
    await page.getByRole("link", { name: "Groups", exact: true }).click();
    await heading("Groups");
    // Whoever changes the view by the keyboard goes on in it.
    expect(await page.evaluate(() => document.activeElement?.tagName)).toBe("MAIN");
    await eventually(async () => (await row(/ready/).count()) === 2);
  });

  test("loads its views and plots only with itself", async () => {
    const other = await newPage();
    const loaded: string[] = [];
    other.on("response", (response) => loaded.push(response.url()));
    await open("#/", other);
    await other.getByRole("link", { name: "Operations" }).waitFor();
    expect(loaded.filter((path) => /ops-app/.test(path))).toEqual([]);
    await open("#/ops", other);
    await heading("Overview", other);
    expect(loaded.filter((path) => /ops-app.*\.js/.test(path))).toHaveLength(1);
    await other.close();
  });

  test("shows what becomes of a turn whose leader is killed in the middle of it", async () => {
    await open("#/ops/turns?status=open");
    const turn = client.chat({ prompt: "Tell me a story about a lighthouse." });
    const reading = read(turn);
    await page.getByText("running", { exact: true }).waitFor();
    await page.getByRole("link", { name: /^turn_/ }).click();
    await page.getByText("first token", { exact: true }).waitFor();
    process.kill(await leaderOf(stage, turn.turnId ?? ""), "SIGKILL");
    survivor = await reading;
    await page.getByRole("main").getByText("completed", { exact: true }).first().waitFor();
    const timeline = page.getByRole("list", { name: "Timeline" }).getByRole("listitem");
    const told = (await timeline.allTextContents()).join("\n");
    expect(told).toMatch(
      /requested.*\n.*sent[\s\S]*claimed[\s\S]*first token[\s\S]*taken over[\s\S]*completed/,
    );
    const bar = page.getByRole("figure", { name: "Where the time went" });
    expect(await bar.textContent()).toMatch(/Waiting.*ms.*first token.*s.*Generating.*s/);
    const runs = page.getByRole("table", { name: "Leaders that had the turn" });
    expect(await runs.getByRole("row").count()).toBe(3);
    // Its words are nobody's business here.
    expect(await page.getByRole("main").textContent()).not.toContain("lighthouse");
    expect(await page.getByText(/prompt=\(\d+ bytes\)/).count()).toBe(1);
  });

  test("shows a group's loss and its return", async () => {
    await open("#/ops/groups");
    await eventually(async () => (await row(/ready/).count()) === 2, 30_000);
    const losses = await page.getByRole("row").locator("td:nth-child(8)").allTextContents();
    expect(losses.toSorted()).toEqual(["0", "1"]);
  });

  test("gives a job that nobody can read back to its queue, after asking", async () => {
    const { queues } = await stage.file();
    const credentials = { accessKeyId: "local", secretAccessKey: "local" };
    const sqs = new SQSClient({ endpoint: queues.endpoint, region: "us-east-1", credentials });
    await open("#/ops/queues");
    const button = page.getByRole("button", { name: "Redrive…" }).first();
    await button.waitFor();
    expect(await button.getAttribute("aria-disabled")).toBe("true");
    await button.focus();
    await page.keyboard.press("Enter");
    expect(await page.getByRole("dialog").count()).toBe(0);
    await sqs.send(new SendMessageCommand({ QueueUrl: queues.jobs.url, MessageBody: "no job" }));
    sqs.destroy();
    await page.locator('button[aria-disabled="false"]', { hasText: "Redrive…" }).first().waitFor();
    await page.getByRole("button", { name: "Look at them" }).click();
    await page.getByRole("row", { name: /The body is not JSON\./ }).waitFor();
    await button.focus();
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog", { name: "Redrive the dead jobs" });
    await dialog.waitFor();
    expect(await dialog.textContent()).toMatch(/1 job that was given up/);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    expect(await button.evaluate((one) => one === document.activeElement)).toBe(true);
    await page.keyboard.press("Enter");
    await dialog.getByRole("button", { name: "Redrive the dead jobs" }).click();
    await dialog.getByText("The dead jobs are back in their queues.").waitFor();
    await dialog.getByRole("button", { name: "Close" }).click();
  });

  test("shows a rollout with its gates, pauses it, and rolls it back", async () => {
    const gates = { minimumTurns: 3, errorRate: 0, interTokenP95Ms: 1_000, slowdown: null };
    const request = { gates, bakeMs: 600_000, by: "test", reason: "new weights" };
    await operator(stage, {
      ...{ command: "start", rolloutId: "to-2", revision: "guide-2", steps: [50, 100] },
      ...request,
    });
    await open("#/ops/rollouts");
    await page.getByText("50 % in force").waitFor({ timeout: 30_000 });
    await page.getByRole("table", { name: "Gates of this step" }).waitFor();
    expect(await row(/^Turns that have ended at least 3/).count()).toBe(1);
    await page.getByRole("button", { name: "Pause…" }).click();
    const pause = page.getByRole("dialog", { name: "Pause the rollout of guide-2" });
    await pause.getByLabel(/Why/).fill("lunch");
    await pause.getByRole("button", { name: /^Pause/ }).click();
    await pause.getByText("The rollout is paused.").waitFor();
    await pause.getByRole("button", { name: "Close" }).click();
    await page.getByText(/since .* by .*: lunch/).waitFor();
    await page.getByRole("button", { name: "Roll back…" }).click();
    const back = page.getByRole("dialog", { name: "Roll back guide-2" });
    expect(await back.textContent()).toMatch(/go to axon-guide-\w+ at once/);
    await back.getByRole("button", { name: "Roll back guide-2" }).click();
    await back.getByText("The rollout has been rolled back.").waitFor();
    await back.getByRole("button", { name: "Close" }).click();
    await row(/^to-2 guide-2 rolled back/).waitFor();
    const history = page.getByRole("table", { name: /^Decisions/ });
    expect(await history.textContent()).toMatch(
      /RolloutRolledBack[\s\S]*RolloutPaused[\s\S]*lunch/,
    );
  });

  test("goes back in the log, and folds a stream up to there", async () => {
    await recorded(stage, survivor);
    const stream = `turn/${survivor.turnId}`;
    await open(`#/ops/log?stream=${encodeURIComponent(stream)}`);
    const commits = page.getByRole("table", { name: "Commits, the newest first" });
    await commits.getByText("TurnCompleted").waitFor();
    await commits
      .getByRole("row", { name: /TurnStarted/ })
      .getByRole("link")
      .click();
    const panel = page.getByRole("region", { name: stream });
    const state = panel.getByRole("table", { name: /^State of/ });
    await state.getByRole("row", { name: "status running changed" }).waitFor();
    await panel.getByRole("slider").press("End");
    await state.getByRole("row", { name: "status completed changed" }).waitFor();
    await panel.getByRole("slider").press("Home");
    await state.getByRole("row", { name: /^status requested/ }).waitFor();
    // The address leads there again.
    await page.reload();
    await state.getByRole("row", { name: /^status requested/ }).waitFor();
    await open("#/ops/log");
    const slider = page.getByRole("slider", { name: "The log up to" });
    await slider.press("Home");
    await page.waitForURL(/at=\d+/);
    await page.getByText("RevisionAdopted").first().waitFor();
    await commits.getByText("TurnCompleted").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Now" }).click();
    await commits.getByText("RolloutRolledBack").waitFor();
  });

  test("plots rates and latencies, and tells them as tables", async () => {
    await open("#/ops/plots");
    await page.locator(".plot canvas").first().waitFor();
    expect(await page.locator(".plot canvas").count()).toBe(4);
    await page.getByText("Time to first token as a table").click();
    const table = page.getByRole("table", { name: "Time to first token" });
    expect(await table.getByRole("row").nth(1).textContent()).toMatch(/ms.*ms/);
  });

  test("says that what it shows is old while nobody answers, and goes on by itself", async () => {
    await open("#/ops/groups");
    const first = row(/^axon-guide-\w+-0 .*ready/);
    await first.waitFor();
    process.kill(await pidOf(stage, "control plane"), "SIGKILL");
    const notice = page.getByText(/As of .*; it may have changed since/);
    await notice.waitFor();
    // What was there stays.
    expect(await first.count()).toBe(1);
    await notice.waitFor({ state: "detached", timeout: 30_000 });
    await first.waitFor();
  });

  test("says so where there is nothing to show", async () => {
    await open("#/ops/turns?status=failed");
    await page.getByText("There are no such turns.").waitFor();
    await open("#/ops/turns/turn_nowhere");
    await page.getByRole("alert").getByText("There is no such thing").waitFor();
    await open("#/ops/nowhere");
    await heading("There is no such view");
  });

  test("lets a key that may only look do nothing", async () => {
    const viewer = await newPage(viewerKey);
    await open("#/ops/rollouts", viewer);
    await viewer.getByText("view only").waitFor();
    const buttons = viewer.getByRole("main").getByRole("button", { name: /…$/ });
    await buttons.first().waitFor();
    for (const button of await buttons.all()) {
      expect(await button.getAttribute("aria-disabled")).toBe("true");
    }
    expect(
      await viewer
        .getByText(/lacks the scope ops:write/)
        .first()
        .isVisible(),
    ).toBe(true);
    await viewer.close();
  });

  test("shows a key without the right nothing, nor the way to it", async () => {
    const chatter = await newPage(chatterKey);
    await open("#/ops/groups", chatter);
    await chatter.getByRole("alert").getByText("You may not see this").waitFor();
    const refused = new Promise((resolve) => {
      chatter.on("websocket", (socket) => {
        socket.on("framereceived", ({ payload }) => {
          if (payload.includes('"forbidden"')) resolve(undefined);
        });
      });
    });
    await open("#/", chatter);
    await chatter.getByLabel("Your message").waitFor();
    await refused;
    expect(await chatter.getByRole("link", { name: "Operations" }).count()).toBe(0);
    await chatter.close();
  });

  /** Of each view, what tells that it is all there. */
  const views: [address: string, shown: string][] = [
    ["#/", ".welcome"],
    ["#/ops", "h2:has-text('Models') + .table-frame"],
    ["#/ops/groups", "table"],
    ["#/ops/queues", "table"],
    ["#/ops/turns", "table"],
    ["turn", ".timeline"],
    ["#/ops/rollouts", "h3:has-text('What was decided') + .table-frame"],
    ["commit", ".panel table"],
    ["#/ops/plots", "canvas"],
  ];

  test("has no serious accessibility fault, in either theme, and fits a phone", async () => {
    const faults: string[] = [];
    for (const [name, shown] of views) {
      await open(name.startsWith("#") ? name : addressOf(name));
      if (name === "commit") await page.getByRole("table").getByRole("link").first().click();
      await page.locator(shown).first().waitFor();
      for (const colorScheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme });
        await page.locator(`html[data-theme=${colorScheme}]`).waitFor();
        faults.push(...(await faultsOf(name, colorScheme)));
      }
      await page.setViewportSize({ width: 360, height: 740 });
      // A plot is drawn anew for the width that it finds.
      await expect.poll(() => page.evaluate(widestOf), { message: name }).toBeLessThanOrEqual(360);
      await page.setViewportSize({ width: 1_280, height: 900 });
    }
    expect(faults).toEqual([]);
  });

  const addressOf = (name: string) =>
    name === "turn" ? `#/ops/turns/${survivor.turnId}` : "#/ops/log?stream=rollout%2F";

  const widestOf = () =>
    Math.max(
      document.documentElement.scrollWidth,
      document.querySelector(".ops-main")?.scrollWidth ?? 0,
    );

  async function faultsOf(view: string, theme: string): Promise<string[]> {
    if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(axe);
    // Between the themes nothing but the colours differs.
    const options = theme === "light" ? {} : { runOnly: ["color-contrast", "link-in-text-block"] };
    const violations = await page.evaluate(async (asked) => {
      const { run } = (globalThis as unknown as { axe: typeof import("axe-core") }).axe;
      const { violations } = await run({ ...asked, resultTypes: ["violations"] });
      return violations.map(({ id, impact, nodes }) => ({
        ...{ id, impact, where: nodes.map(({ target }) => target.join(" ")) },
      }));
    }, options);
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, where }) => `${view}, ${theme}: ${id} at ${where.join(", ")}`);
  }

  test("rotates a group, whose turns another one takes meanwhile", async () => {
    await open("#/ops/groups");
    const own = row(/^axon-guide-\w+-1 .*ready/);
    await own.getByRole("button", { name: "Rotate…" }).click();
    const dialog = page.getByRole("dialog", { name: /^Rotate axon-guide-\w+-1$/ });
    expect(await dialog.textContent()).toMatch(/Meanwhile 1 other group serves/);
    await dialog.getByLabel(/Why/).fill("a new driver");
    await dialog.getByRole("button", { name: /^Rotate/ }).click();
    await dialog.getByText(/has been told to drain and to start again/).waitFor();
    await dialog.getByRole("button", { name: "Close" }).click();
    // By itself only its beats would move.
    const epoch = /epoch (\d+)/;
    const before = epoch.exec((await own.textContent()) ?? "")?.[1];
    await eventually(async () => {
      const now = epoch.exec((await own.textContent({ timeout: 500 })) ?? "")?.[1];
      return now !== undefined && now !== before;
    }, 30_000);
  });

  test("has thrown no error", () => {
    expect(errors).toEqual([]);
  });
});
