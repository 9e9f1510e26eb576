/** Numbers as people read them. */

/** Powers of ten, as GPUs are sold by: 141107412992 is "141.1 GB". */
export function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** 524288 is "524,288". */
export function grouped(count: number): string {
  return Math.round(count).toLocaleString("en-US");
}

export function dollars(usd: number | undefined): string {
  return usd === undefined ? "unknown" : `$${grouped(usd)}`;
}

export function milliseconds(seconds: number): string {
  return `${(seconds * 1_000).toFixed(1)} ms`;
}
