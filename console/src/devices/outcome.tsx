import { Button } from '../ui/button';
import { csv, download } from '../ui/csv';
import { DataTable } from '../ui/data-table';
import { Blank, Notice } from '../ui/page';
import { Problem } from '../ui/problem';
import { changedOf, refusedOf } from './assign.rule';
import type { Run } from './assign-run';

const SHOWN = 100;

interface OutcomeProps {
  run: Run | null;
  strict: boolean;
  onStop: () => void;
  onResume: () => void;
}

/** What a check or a run has come to: counts, who is refused and why, and all of it as CSV. */
export function Outcome({ run, strict, onStop, onResume }: OutcomeProps) {
  if (!run) {
    return (
      <Blank title="Not checked yet">
        The check says for each device whether it gets the tier, and if not, why.
      </Blank>
    );
  }
  const refused = refusedOf(run.results);
  const changed = changedOf(run.results).length;
  const same = run.results.length - changed - refused.length;
  const would = run.kind === 'check';
  const blocked = strict && refused.length > 0;
  return (
    <section className="card stack" aria-labelledby="outcome">
      <div className="row ends">
        <h2 id="outcome">{would ? 'Check' : 'Result'}</h2>
        {run.results.length > 0 ? (
          <Button
            onClick={() =>
              download(
                would ? 'check.csv' : 'result.csv',
                csv([
                  ['device_id', 'status', 'code', 'detail'],
                  ...run.results.map((one) => [
                    one.device_id,
                    one.status,
                    one.code ?? '',
                    one.detail ?? '',
                  ]),
                ]),
              )
            }
          >
            Result as CSV
          </Button>
        ) : null}
      </div>
      {run.state === 'done' ? null : (
        <div className="stack tight">
          <progress
            className="progress"
            aria-label="Progress"
            max={run.total}
            value={run.results.length}
          />
          <div className="row ends">
            <span role="status">
              {run.results.length.toLocaleString('en')} of {run.total.toLocaleString('en')}
              {run.state === 'stopped' ? ', stopped' : ''}
            </span>
            {run.state === 'running' ? (
              <Button onClick={onStop}>Stop</Button>
            ) : (
              <Button look="primary" onClick={onResume}>
                Resume
              </Button>
            )}
          </div>
        </div>
      )}
      {run.refusal ? (
        <Problem
          error={run.refusal}
          tried={would ? 'The check was interrupted' : 'The run was interrupted'}
        />
      ) : null}
      <div role="status">
        <dl className="facts">
          <dt>{would ? 'Would change' : 'Changed'}</dt>
          <dd className="number">{blocked ? 0 : changed.toLocaleString('en')}</dd>
          <dt>Have it already</dt>
          <dd className="number">{same.toLocaleString('en')}</dd>
          <dt>Refused</dt>
          <dd className="number">{refused.length.toLocaleString('en')}</dd>
        </dl>
      </div>
      {blocked ? (
        <Notice tone="warn" title="All or none: none">
          As long as one is refused, no device changes.
        </Notice>
      ) : null}
      {would && run.total > 500 && run.state === 'done' ? (
        <p className="small quiet">
          More than 500 devices are checked in parts, and each part counts the free slots anew: if
          fewer are free in all, the last devices are refused when you apply it.
        </p>
      ) : null}
      {refused.length > 0 ? (
        <DataTable
          caption="Refused devices"
          rows={refused.slice(0, SHOWN)}
          id={(one) => one.device_id}
          columns={[
            {
              label: 'Device',
              lead: true,
              cell: (one) => <span className="mono">{one.device_id}</span>,
            },
            { label: 'Why not', cell: (one) => one.detail ?? one.code ?? '' },
          ]}
        />
      ) : null}
      {refused.length > SHOWN ? (
        <p className="quiet">{`${refused.length - SHOWN} more are in the CSV file.`}</p>
      ) : null}
    </section>
  );
}
