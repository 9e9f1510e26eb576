import { omittedBytes } from "./omitted.ts";

/** An event as the server shows it: with lengths in the place of texts. */
export interface ShownEvent {
  type: string;
  version: number;
  at: number;
  [field: string]: unknown;
}

/** Fields that each event has, or that its stream says. */
const usual = new Set(["type", "version", "at", "model", "turnId", "groupId", "conversationId"]);
const mostCharacters = 140;

/** The fields of an event that tell it from others, on one line. */
export function summaryOf(event: ShownEvent): string {
  const parts = Object.entries(event)
    .filter(([name]) => !usual.has(name))
    .map(([name, value]) => `${name}=${shortOf(value)}`);
  const line = parts.join(" ");
  return line.length > mostCharacters ? `${line.slice(0, mostCharacters - 1)}…` : line;
}

function shortOf(value: unknown): string {
  const bytes = omittedBytes(value);
  if (bytes !== undefined) return `(${bytes} bytes)`;
  if (Array.isArray(value) && value.length > 0 && value.every(isWeight)) {
    return `[${value.map(({ revision, percent }) => `${revision} ${percent} %`).join(", ")}]`;
  }
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** A revision's part of the traffic. */
function isWeight(value: unknown): value is { revision: string; percent: number } {
  return (
    typeof value === "object" &&
    value !== null &&
    Object.keys(value).toSorted().join() === "percent,revision"
  );
}
