import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browserPath, openBrowser } from "./browser.ts";
import { recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

/** The page in a real browser, on a whole stage. */

if (browserPath === undefined) {
  console.warn(
    "No browser was found: the tests of the page are skipped. Install Debian's chromium.",
  );
}

describe.skipIf(browserPath === undefined)("the page", () => {
  let stage: SpawnedStage;
  let browser: Browser;
  let page: Page;
  const errors: string[] = [];

  beforeAll(async () => {
    // Slow enough for a reader, and a test, to see an answer grow.
    stage = await spawnStage(await dataFolder(), { env: { AXON_MS_PER_TOKEN: "20" } });
    browser = await openBrowser(browserPath ?? "");
    page = await browser.newPage();
    page.on("pageerror", (error) => errors.push(error.message));
    await page.goto((await stage.file()).url);
  });
  afterAll(async () => {
    await browser?.close();
    await interrupt(stage);
    await removeFolder(stage.dataDir);
  });

  const answer = () => page.getByTestId("answer").last();
  const box = () => page.getByLabel("Your message");
  const ended = (status = "completed") =>
    page.locator(`[data-testid=answer][data-status=${status}]`).last().waitFor();

  async function ask(prompt: string): Promise<void> {
    await box().fill(prompt);
    await page.keyboard.press("Enter");
  }

  test("shows the first words of an answer before the last, and finds it after a reload", async () => {
    // Every text that the answer has had, as the browser saw it.
    await page.evaluate(() => {
      const seen: string[] = [];
      Object.assign(globalThis, { seen });
      new MutationObserver(() => {
        const text = document.querySelector("[data-testid=answer]")?.textContent ?? "";
        if (text !== "" && text !== seen.at(-1)) seen.push(text);
      }).observe(document.body, { childList: true, subtree: true, characterData: true });
    });
    await ask("What is tensor parallelism?");
    await ended();
    const whole = (await answer().textContent()) ?? "";
    const seen = await page.evaluate(() => (globalThis as unknown as { seen: string[] }).seen);
    expect(seen.length).toBeGreaterThan(3);
    expect(whole.startsWith((seen[0] ?? "?").slice(0, 5))).toBe(true);
    expect((seen[0] ?? "").length).toBeLessThan(whole.length);

    const id = /#\/c\/(\w+)/.exec(page.url())?.[1] ?? "";
    const turnId = (await page.locator(".figures code").last().textContent()) ?? "";
    await recorded(stage, { conversationId: id, turnId });
    await page.reload();
    await ended();
    expect(await answer().textContent()).toBe(whole);
    const link = page.getByRole("navigation").getByRole("link", { name: /tensor parallelism/ });
    expect(await link.getAttribute("aria-current")).toBe("page");
  });

  test("goes on with a turn that runs when it is reloaded", async () => {
    await page.getByRole("link", { name: "New chat" }).click();
    await ask("Tell me a story about a lighthouse.");
    await page.waitForFunction(
      () => (document.querySelector("[data-testid=answer]")?.textContent ?? "").length > 20,
    );
    const before = (await answer().textContent()) ?? "";
    await page.reload();
    await ended();
    const whole = (await answer().textContent()) ?? "";
    expect(whole.startsWith(before.slice(0, 20))).toBe(true);
    expect(whole.length).toBeGreaterThan(before.length);
  });

  test("stops an answer and keeps what was said", async () => {
    await page.getByRole("link", { name: "New chat" }).click();
    await ask("Tell me a story about a fox.");
    await page.waitForFunction(
      () => (document.querySelector("[data-testid=answer]")?.textContent ?? "").length > 10,
    );
    await page.getByRole("button", { name: "Stop" }).click();
    await ended("cancelled");
    expect(await page.getByText("stopped").isVisible()).toBe(true);
    expect(((await answer().textContent()) ?? "").length).toBeGreaterThan(10);
  });

  test("says what is wrong with a message that is too long, and sends nothing", async () => {
    await box().fill("é".repeat(9_000));
    expect(await page.getByRole("alert").textContent()).toMatch(/18,000 bytes.*16,384/);
    expect(await page.getByRole("button", { name: "Send" }).isDisabled()).toBe(true);
    await box().fill("");
  });

  test("fits a phone: nothing is wider than the screen, and the list is a drawer", async () => {
    await page.setViewportSize({ width: 320, height: 640 });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    expect(width).toBeLessThanOrEqual(320);
    const list = page.getByRole("navigation", { name: "Conversations" });
    expect(await list.isVisible()).toBe(false);
    await page.getByRole("button", { name: "Show the conversations" }).click();
    expect(await list.isVisible()).toBe(true);
    await list.getByRole("link", { name: /tensor parallelism/ }).click();
    expect(await list.isVisible()).toBe(false);
    await ended();
    await page.setViewportSize({ width: 1_200, height: 800 });
  });

  test("remembers the chosen colours", async () => {
    await page.emulateMedia({ colorScheme: "light" });
    await page.getByRole("button", { name: "Use dark colours" }).click();
    await page.reload();
    await page.locator('html[data-theme="dark"]').waitFor();
  });

  test("has thrown no error", () => {
    expect(errors).toEqual([]);
  });
});
