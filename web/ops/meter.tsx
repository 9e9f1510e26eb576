import { percentOf } from "./format.ts";

interface Props {
  label: string;
  /** 0–1; null where it is not known. */
  share: number | null;
  /** What stands beside it; the share in percent where left out. */
  text?: string;
}

/** A share as a bar and as text. The bar says nothing that the text does not. */
export function Meter({ label, share, text = percentOf(share) }: Props) {
  return (
    <span className="meter">
      {share !== null && (
        <meter
          aria-label={label}
          min={0}
          max={1}
          high={0.9}
          value={Math.min(1, Math.max(0, share))}
        >
          {text}
        </meter>
      )}
      <span>{text}</span>
    </span>
  );
}
