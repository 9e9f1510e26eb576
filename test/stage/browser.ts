import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Browser, chromium } from "playwright-core";

const candidates = [
  process.env["AXON_CHROMIUM"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  // Where the installer unpacks it for a user who may not install.
  join(import.meta.dirname, "..", "..", ".axon", "packages", "usr", "bin", "chromium"),
];

/** Where a browser is, or undefined on a machine that has none. */
export const browserPath = candidates.find((path) => path !== undefined && existsSync(path));

/** A headless browser that talks to nobody but the page's own server. */
export function openBrowser(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
      ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ],
  });
}
