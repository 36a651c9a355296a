import type { ReactNode } from 'react';
import { Button } from './button';

export interface Column<Row> {
  label: string;
  cell: (row: Row) => ReactNode;
  /** The column that names the row: the head of its card on a narrow screen. */
  lead?: boolean;
  right?: boolean;
}

interface DataTableProps<Row> {
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  id: (row: Row) => string;
  /** Newer rows are on their way; these stay, dimmed. */
  busy?: boolean;
  picked?: ReadonlySet<string>;
  onPick?: (ids: readonly string[], picked: boolean) => void;
  /** The server's pages: to the first, and to the next. */
  paging?: { first: (() => void) | null; next: (() => void) | null };
}

/** A table; order, filters and pages are the server's. Below 640 px each row is a card. */
export function DataTable<Row>(props: DataTableProps<Row>) {
  const { caption, columns, rows, id, busy, picked, onPick, paging } = props;
  const all = rows.map(id);
  return (
    <div className="stack tight">
      <div className="card table-card">
        <table className="table" aria-busy={busy || undefined}>
          <caption className="hidden">{caption}</caption>
          <thead>
            <tr>
              {onPick ? (
                <td className="pick">
                  <input
                    type="checkbox"
                    aria-label="All of this page"
                    checked={all.length > 0 && all.every((one) => picked?.has(one))}
                    onChange={(event) => onPick(all, event.target.checked)}
                  />
                </td>
              ) : null}
              {columns.map((column) => (
                <th key={column.label} scope="col" className={column.right ? 'right' : undefined}>
                  {column.label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={id(row)}>
                {onPick ? (
                  <td className="pick">
                    <input
                      type="checkbox"
                      aria-label={id(row)}
                      checked={picked?.has(id(row)) ?? false}
                      onChange={(event) => onPick([id(row)], event.target.checked)}
                    />
                  </td>
                ) : null}
                {columns.map((column) => (
                  <td
                    key={column.label}
                    data-label={column.label}
                    className={`${column.lead ? 'lead' : ''} ${column.right ? 'right' : ''}`}
                  >
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {paging && (paging.first || paging.next) ? (
        <nav className="row" aria-label="Pages">
          {paging.first ? <Button onClick={paging.first}>First page</Button> : null}
          {paging.next ? <Button onClick={paging.next}>Next page</Button> : null}
        </nav>
      ) : null}
    </div>
  );
}
