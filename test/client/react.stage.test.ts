import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browserPath, openBrowser } from "../stage/browser.ts";
import { countingServer, examples, installedPackage } from "./package.ts";
import { scriptedServer } from "./scripted-server.ts";

/** The hook as its documentation shows it, in a real browser. */

if (browserPath === undefined) {
  console.warn("No browser was found: the tests of the React hook are skipped.");
}

const main = `
import { createRoot } from "react-dom/client";
import { Chat } from "./chat.tsx";
createRoot(document.getElementById("root")!).render(<Chat />);
`;

describe.skipIf(browserPath === undefined)("useAnswer", () => {
  let folder: string;
  let server: Awaited<ReturnType<typeof scriptedServer>>;
  let pages: Server;
  let browser: Browser;
  beforeAll(async () => {
    folder = installedPackage();
    server = await scriptedServer(countingServer());
    const [example] = examples("tsx");
    const chat = (example?.code ?? "").replace("wss://chat.example.com", server.url);
    writeFileSync(join(folder, "chat.tsx"), chat);
    writeFileSync(join(folder, "main.tsx"), main);
    await build({
      ...{ root: folder, logLevel: "silent", configFile: false },
      oxc: { jsx: { runtime: "automatic", development: false } },
      define: { "process.env.NODE_ENV": '"production"' },
      build: { lib: { entry: "main.tsx", formats: ["es"], fileName: () => "main.js" } },
    });
    const script = readFileSync(join(folder, "dist", "main.js"));
    pages = createServer((request, response) => {
      const isScript = request.url === "/main.js";
      const type = isScript ? "text/javascript" : "text/html";
      response.writeHead(200, { "content-type": type });
      const html = '<div id="root"></div><script type="module" src="/main.js"></script>';
      response.end(isScript ? script : html);
    });
    await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
    browser = await openBrowser(browserPath ?? "");
  });
  afterAll(async () => {
    await browser?.close();
    pages?.close();
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  test("shows an answer as it grows, through a lost connection, until it is stopped", async () => {
    const page = await browser.newPage();
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(error.message));
    const { port } = pages.address() as AddressInfo;
    await page.goto(`http://127.0.0.1:${port}/`);
    const answer = page.locator("p");
    expect(await answer.getAttribute("data-status")).toBe("idle");
    await page.getByRole("button", { name: "Ask" }).click();
    await page.locator("p[data-status=streaming]").waitFor();
    server.dropAll();
    await page.waitForFunction(() => document.querySelector("p")?.textContent?.includes("60 "));
    await page.getByRole("button", { name: "Stop" }).click();
    await page.locator("p[data-status=cancelled]").waitFor();
    const numbers = ((await answer.textContent()) ?? "").trim().split(" ").map(Number);
    expect(numbers).toEqual(numbers.map((_, i) => i + 1));
    expect(server.connections()).toBe(2);
    expect(errors).toEqual([]);
  });
});
