/** Figures as people read them; what is not known is a dash. */

export function durationText(ms: number | null): string {
  if (ms === null) return "–";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1_000)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const countText = (value: number | null): string =>
  value === null ? "–" : String(Math.round(value * 10) / 10);

/** How often: `once`, `3 times`. */
export const timesText = (value: number): string => (value === 1 ? "once" : `${value} times`);

export const percentText = (share: number | null): string =>
  share === null ? "–" : `${Math.round(share * 100)} %`;

/** The time of the day, UTC. */
export const clockText = (ms: number): string => new Date(ms).toISOString().slice(11, 23);

/** The day and the time, UTC. */
export const timeText = (ms: number): string =>
  new Date(ms).toISOString().slice(0, 19).replace("T", " ");
