import { type ReactNode, useId } from "react";

export interface Column<Row> {
  head: string;
  cell: (row: Row) => ReactNode;
  /** Numbers stand at the right, so that their digits are in line. */
  isNumber?: boolean;
}

interface Props<Row> {
  caption: string;
  /** The caption is heard, not seen: a heading above says it. */
  hideCaption?: boolean;
  /** The first one names the row. */
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row) => string;
  /** What is said where there are no rows. */
  empty: string;
}

/**
 * A table that scrolls for itself where it is wider than the page, also with the keyboard. On a narrow screen each
 * row is a card, with the columns' names beside the values (ops.css).
 */
export function DataTable<Row>(props: Props<Row>) {
  const { caption, hideCaption = false, columns, rows, keyOf, empty } = props;
  const captionId = useId();
  if (rows.length === 0) return <p className="hint">{empty}</p>;
  return (
    // biome-ignore lint/a11y/useSemanticElements: a section would be a landmark all the same
    <div
      className="table-frame"
      role="region"
      aria-labelledby={captionId}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys scroll it
      tabIndex={0}
    >
      <table>
        <caption id={captionId} className={hideCaption ? "visually-hidden" : undefined}>
          {caption}
        </caption>
        <thead>
          <tr>
            {columns.map(({ head, isNumber }) => (
              <th key={head} scope="col" className={isNumber ? "number" : undefined}>
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={keyOf(row)}>
              {columns.map((column, i) => (
                <Cell key={column.head} column={column} row={row} isHead={i === 0} />
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Cell<Row>({ column, row, isHead }: { column: Column<Row>; row: Row; isHead: boolean }) {
  const className = column.isNumber ? "number" : undefined;
  const content = <div className="cell">{column.cell(row)}</div>;
  if (!isHead) {
    return (
      <td className={className} data-head={column.head}>
        {content}
      </td>
    );
  }
  return (
    <th scope="row" className={className}>
      {content}
    </th>
  );
}
