/** Parts of a whole, side by side, with a legend that says the same in words. */
export interface BarPart {
  name: string;
  value: number;
  text: string;
}

export function StackedBar({ label, parts }: { label: string; parts: readonly BarPart[] }) {
  const whole = parts.reduce((sum, { value }) => sum + value, 0);
  return (
    <figure className="stacked" aria-label={label}>
      <div className="stacked-bar" aria-hidden="true">
        {parts.map(({ name, value }, i) => (
          <span
            key={name}
            className={`part-${i}`}
            style={{ flexGrow: whole === 0 ? 0 : value / whole }}
          />
        ))}
      </div>
      <ul>
        {parts.map(({ name, text }, i) => (
          <li key={name}>
            <span className={`swatch part-${i}`} aria-hidden="true" />
            {name} <b>{text}</b>
          </li>
        ))}
      </ul>
    </figure>
  );
}
