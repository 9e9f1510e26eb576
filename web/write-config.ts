import { writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Writes config.json into the built page, for a stage that serves it as a file: the last step of the build
 * on AWS, which says where the stage is by AXON_WEBSOCKET_URL and AXON_API_URL.
 */
const { AXON_WEBSOCKET_URL: webSocketUrl, AXON_API_URL: apiUrl } = process.env;
if (!webSocketUrl || !apiUrl) throw new Error("AXON_WEBSOCKET_URL and AXON_API_URL must be set.");
writeFileSync(
  join(import.meta.dirname, "dist", "config.json"),
  JSON.stringify({ webSocketUrl, apiUrl }),
);
