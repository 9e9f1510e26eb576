import * as z from "zod";
import type { Database } from "../database.ts";
import type { Deps } from "../deps.ts";
import { type TurnRecord, turnsAfter } from "../history/history-queries.ts";
import { refusalOf } from "../refusals.ts";
import { conversations, turns } from "../streams.ts";

/**
 * What a tenant has asked and was answered, as lines: a conversation, then its turns in order, then the next
 * conversation. docs/DATA.md has the format.
 */
type ExportLine =
  | {
      type: "conversation";
      id: string;
      tenantId: string;
      title: string;
      createdAt: number;
      updatedAt: number;
      turns: number;
    }
  | ({ type: "turn"; conversationId: string } & TurnRecord)
  | {
      type: "event";
      stream: string;
      version: number;
      position: string;
      event: { type: string };
    };

export interface ExportPage {
  lines: ExportLine[];
  /** Where the next page begins; null after the last. */
  next: string | null;
}

export interface ExportRequest {
  /** Of this tenant; undefined where the operator asks for one conversation, whosever it is. */
  tenantId: string | undefined;
  conversationId?: string | undefined;
  events: boolean;
  after?: string | undefined;
}

/** A page ends with the line that goes beyond it. A Lambda function's answer has at most 6 MB. */
const pageBytes = 1_000_000;
const conversationsAtOnce = 50;
const turnsAtOnce = 50;

/** Between two lines: in a conversation after a turn (0: before the first), or behind its last (null). */
interface Place {
  conversationId: string;
  ordinal: number | null;
}

/** A page of an export, in the order of conversations' ids. @throws AxonError invalid_field */
export async function exportPage(
  deps: Pick<Deps, "database" | "log">,
  request: ExportRequest,
): Promise<ExportPage> {
  let place = placeOf(request.after);
  const page = new Page();
  for (;;) {
    const found = await conversationsFrom(deps.database, request, place);
    for (const conversation of found) {
      const { id } = conversation;
      const isBegun = place?.conversationId === id && place.ordinal !== null;
      let ordinal = isBegun ? (place?.ordinal ?? 0) : 0;
      if (!isBegun) {
        page.add({ type: "conversation", ...conversation });
        if (request.events) page.add(...(await eventsOf(deps, conversations.nameOf(id))));
      }
      for (;;) {
        const some = await turnsAfter(deps.database, id, ordinal, turnsAtOnce);
        for (const turn of some) {
          if (page.isFull) return page.end({ conversationId: id, ordinal });
          page.add({ type: "turn", conversationId: id, ...turn });
          if (request.events) page.add(...(await eventsOf(deps, turns.nameOf(turn.id))));
          ordinal = turn.ordinal;
        }
        if (some.length < turnsAtOnce) break;
      }
      place = { conversationId: id, ordinal: null };
      if (page.isFull) return page.end(place);
    }
    if (found.length < conversationsAtOnce) return page.end(null);
  }
}

class Page {
  readonly #lines: ExportLine[] = [];
  #bytes = 0;

  add(...lines: ExportLine[]): void {
    for (const line of lines) {
      this.#lines.push(line);
      this.#bytes += Buffer.byteLength(JSON.stringify(line));
    }
  }

  get isFull(): boolean {
    return this.#bytes >= pageBytes;
  }

  end(next: Place | null): ExportPage {
    return {
      lines: this.#lines,
      next:
        next === null
          ? null
          : Buffer.from(JSON.stringify([next.conversationId, next.ordinal])).toString("base64url"),
    };
  }
}

const problem = "is no place in an export";
const placeSchema = z
  .base64url({ error: problem })
  .transform((text, context): unknown => {
    try {
      return JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
    } catch {
      context.addIssue({ code: "custom", message: problem });
      return z.NEVER;
    }
  })
  .pipe(z.tuple([z.string().max(64), z.int().min(0).nullable()], { error: problem }));

function placeOf(after: string | undefined): Place | undefined {
  if (after === undefined) return undefined;
  const parsed = z.object({ after: placeSchema }).safeParse({ after });
  if (!parsed.success) throw refusalOf(parsed.error);
  const [conversationId, ordinal] = parsed.data.after;
  return { conversationId, ordinal };
}

const ms = z.date().transform((date) => date.getTime());
const conversationSchema = z
  .object({
    ...{ id: z.string(), tenant_id: z.string(), title: z.string(), turns: z.int() },
    ...{ created_at: ms, updated_at: ms },
  })
  .transform(({ tenant_id: tenantId, created_at: createdAt, updated_at: updatedAt, ...row }) => {
    return { ...row, tenantId, createdAt, updatedAt };
  });

async function conversationsFrom(
  database: Database,
  { tenantId, conversationId }: ExportRequest,
  place: Place | undefined,
) {
  const { rows } = await database.query(
    `SELECT id, tenant_id, title, turns, created_at, updated_at FROM conversations
     WHERE erased_at IS NULL AND ($1::text IS NULL OR tenant_id = $1)
       AND ($2::text IS NULL OR id = $2) AND (id COLLATE "C" > $3 OR (id = $3 AND $4))
     ORDER BY id COLLATE "C" LIMIT $5`,
    [
      ...[tenantId ?? null, conversationId ?? null, place?.conversationId ?? ""],
      ...[place !== undefined && place.ordinal !== null, conversationsAtOnce],
    ],
  );
  return z.array(conversationSchema).parse(rows);
}

async function eventsOf({ log }: Pick<Deps, "log">, stream: string): Promise<ExportLine[]> {
  const commits = await log.read(stream);
  return commits.flatMap(({ version, position, events }) =>
    events.map((event): ExportLine => ({ type: "event", stream, version, position, event })),
  );
}
