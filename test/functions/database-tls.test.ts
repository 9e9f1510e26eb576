import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { lazyDatabase } from "../../functions/lib/database.ts";
import { environmentWithLinks } from "../../functions/lib/links.ts";
import { freshDatabase } from "../support/parts.ts";
import { logger } from "./stage.ts";

/** What a linked database demands of a server's certificate, on a PostgreSQL that has one for localhost. */

const known = getCACertificates("default");
let admin: Client;
let certificate: string;
let plainUrl: string;

/** Somebody's own server keeps its settings. */
const isOurs = process.env["DATABASE_URL"] === undefined;

beforeAll(async () => {
  if (!isOurs) return;
  plainUrl = await freshDatabase();
  admin = new Client({ connectionString: plainUrl });
  await admin.connect();
  // The server makes its own files, as the user that it runs as.
  const name = "-subj /CN=localhost -addext subjectAltName=DNS:localhost";
  const make = `openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout tls.key -out tls.pem ${name}`;
  await admin.query(`COPY (SELECT 1) TO PROGRAM '${make} 2>/dev/null'`);
  const { rows } = await admin.query("SELECT pg_read_file('tls.pem') AS certificate");
  certificate = String(rows[0].certificate);
  for (const [setting, value] of Object.entries({
    ...{ ssl_cert_file: "tls.pem", ssl_key_file: "tls.key", ssl: "on" },
  })) {
    await admin.query(`ALTER SYSTEM SET ${setting} = '${value}'`);
  }
  await admin.query("SELECT pg_reload_conf()");
});
afterAll(async () => {
  if (!isOurs) return;
  setDefaultCACertificates(known);
  await admin.query("ALTER SYSTEM RESET ssl");
  await admin.query("SELECT pg_reload_conf()");
  await admin.end();
});

/** The database as a link of SST, by this name of its host. */
function linkedDatabase(host: string) {
  const { port, username, password, pathname } = new URL(plainUrl);
  const Store = { host, port, username, password, database: pathname.slice(1) };
  const env = environmentWithLinks({ SST_RESOURCE_Store: JSON.stringify(Store) });
  return lazyDatabase(env["DATABASE_URL"] ?? "", logger);
}

async function isEncrypted(host: string): Promise<unknown> {
  const pool = linkedDatabase(host);
  try {
    const { rows } = await pool.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    return rows[0].ssl;
  } finally {
    await pool.end();
  }
}

test.runIf(isOurs)(
  "a linked database is read over TLS, from a host that its authority vouches for",
  async () => {
    setDefaultCACertificates([...known, certificate]);
    expect(await isEncrypted("localhost")).toBe(true);
    await expect(isEncrypted("127.0.0.1")).rejects.toThrow(/does not match certificate/);
    setDefaultCACertificates(known);
    await expect(isEncrypted("localhost")).rejects.toThrow(/self-signed certificate/);
  },
);
