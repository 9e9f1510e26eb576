import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { answerPage } from "../../local/gateway-page.ts";
import { browserPath, openBrowser } from "./browser.ts";

/** The page of a stage that gives out no credential, as the one on AWS. */
describe.skipIf(browserPath === undefined)("signing in", () => {
  const pageDir = join(import.meta.dirname, "..", "..", "web", "dist");
  let server: Server;
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    server = createServer((request, response) => {
      const { url = "/", headers } = request;
      const json = (status: number, body: unknown) =>
        response
          .writeHead(status, { "content-type": "application/json" })
          .end(JSON.stringify(body));
      if (url === "/config.json") return json(200, { webSocketUrl: "/socket", apiUrl: "/api" });
      if (!url.startsWith("/api/")) return void answerPage(pageDir, request, response);
      if (headers.authorization !== "Bearer right") return json(401, { message: "no" });
      return json(200, url === "/api/models" ? { models: [] } : { conversations: [], next: null });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    browser = await openBrowser(browserPath ?? "");
    page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  });
  afterAll(async () => {
    await browser?.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  async function enter(key: string): Promise<void> {
    await page.getByLabel("API key or token").fill(key);
    await page.getByRole("button", { name: "Sign in" }).click();
  }

  test("a wrong key is refused, and may be tried again", async () => {
    await enter("wrong");
    expect(await page.getByRole("alert").textContent()).toContain("not known here");
  });

  test("a right one opens the page", async () => {
    await enter("right");
    await page.getByLabel("Your message").waitFor();
  });

  test("it is kept for a reload, and not beyond the tab", async () => {
    await page.reload();
    await page.getByLabel("Your message").waitFor();
    const other = await browser.newPage();
    await other.goto(page.url());
    await other.getByLabel("API key or token").waitFor();
  });
});
