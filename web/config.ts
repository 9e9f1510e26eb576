/** What the page must know to work. */
export interface Config {
  webSocketUrl: string;
  apiUrl: string;
  credential: string;
}

/** Where the page finds its stage; served beside it as /config.json. */
export interface StageConfig extends Omit<Config, "credential"> {
  /** Only a stage of one's own gives one out. On AWS anybody could load it, so the page asks. */
  credential?: string;
}

/** Addresses may be relative to the page. @throws Error when the page is served without a stage. */
export async function loadConfig(): Promise<StageConfig> {
  const response = await fetch("/config.json", { cache: "no-store" });
  if (!response.ok) throw new Error(`config.json answered ${response.status}`);
  const { webSocketUrl, apiUrl, credential } = (await response.json()) as StageConfig;
  const socket = new URL(webSocketUrl, location.href);
  socket.protocol = socket.protocol.replace("http", "ws");
  return {
    webSocketUrl: socket.href,
    apiUrl: new URL(apiUrl, location.href).href,
    ...(credential !== undefined && { credential }),
  };
}
