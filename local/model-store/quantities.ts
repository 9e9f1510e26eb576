/** Numbers for people. */

const thousands = ["", "k", "M", "G", "T", "P"];

/** Three digits and a prefix: 134515008 is "135M". */
export function countText(count: number): string {
  const { digits, prefix } = scaled(count);
  return digits + prefix;
}

/** Bytes in powers of ten, as disks and the hub count: "269 MB". */
export function bytesText(bytes: number): string {
  const { digits, prefix } = scaled(bytes);
  return `${digits} ${prefix}B`;
}

/** "0:07", "12:30" or "1:02:03". */
export function durationText(seconds: number): string {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part));
  const [minutes = "0", rest = "0"] = parts;
  if (whole < 3_600) return `${minutes}:${rest.padStart(2, "0")}`;
  return `${Math.floor(whole / 3_600)}:${minutes.padStart(2, "0")}:${rest.padStart(2, "0")}`;
}

function scaled(value: number): { digits: string; prefix: string } {
  // Three digits are kept, so 999.6 is on its way to the next prefix.
  let power = 0;
  while (power < thousands.length - 1 && value / 1_000 ** power >= 999.5) power++;
  const prefix = thousands[power] ?? "";
  const scaledValue = value / 1_000 ** power;
  const decimals = power === 0 ? 0 : scaledValue < 9.995 ? 2 : scaledValue < 99.95 ? 1 : 0;
  return { digits: scaledValue.toFixed(decimals), prefix };
}
