import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useMemo, useRef, useState } from 'react';
import { offeredTiers } from '../billing/queries';
import { Button, ButtonLink } from '../ui/button';
import { Select } from '../ui/field';
import { Page } from '../ui/page';
import { Problem } from '../ui/problem';
import './devices.css';
import { CHUNK, changedOf, parse } from './assign.rule';
import { useAssignment } from './assign-run';
import { Outcome } from './outcome';

const KEPT = 'draft.assign';

/** Gives many devices one tier: paste or drop, check, then apply. */
export function AssignPage() {
  const [text, setText] = useState(() => sessionStorage.getItem(KEPT) ?? '');
  const [tier, setTier] = useState('');
  const [strict, setStrict] = useState(false);
  const tiers = useQuery(offeredTiers);
  const client = useQueryClient();
  const { ids, faults } = useMemo(() => parse(text), [text]);
  const work = useAssignment(ids, tier === 'none' ? null : Number(tier), strict);
  const { run } = work;
  const running = run?.state === 'running';
  const checked = run?.kind === 'check' && run.state === 'done';
  const applied = run?.kind === 'apply' && run.state === 'done';

  useEffect(() => {
    if (text) sessionStorage.setItem(KEPT, text);
    else sessionStorage.removeItem(KEPT);
  }, [text]);
  useEffect(() => {
    if (!applied) return;
    void client.invalidateQueries({ queryKey: ['devices'] });
    void client.invalidateQueries({ queryKey: ['entitlements'] });
    void client.invalidateQueries({ queryKey: ['billing', 'status'] });
  }, [applied, client]);

  const change = (value: string) => {
    setText(value);
    work.reset();
  };
  const lacking = ids.length === 0 ? 'Paste device ids first' : tier ? null : 'Choose a tier first';
  const changing = run ? changedOf(run.results).length : 0;
  return (
    <Page
      title="Assign many devices"
      lead="Give any number of devices one tier. It is checked first, and nothing changes before you apply it."
      back={{ to: { to: '/devices' }, label: 'Devices' }}
    >
      <div className="grid">
        <section className="card stack" aria-label="Which devices, which tier">
          <Source text={text} onChange={change} />
          <p role="status" className={faults.length > 0 ? '' : 'quiet'}>
            {ids.length.toLocaleString('en')} {ids.length === 1 ? 'device' : 'devices'}
            {faults.length > 0 ? `, ${faults.length} lines left out:` : ''}
          </p>
          {faults.length > 0 ? (
            <ul className="refused small">
              {faults.slice(0, 20).map((at) => (
                <li key={at.line}>
                  Line {at.line}: <span className="mono">{at.text.slice(0, 60)}</span>{' '}
                  {at.fault === 'double' ? 'is there twice' : 'is no device id'}
                </li>
              ))}
              {faults.length > 20 ? <li>{`and ${faults.length - 20} more`}</li> : null}
            </ul>
          ) : null}
          <Select
            name="tier"
            label="Tier"
            value={tier}
            onChange={(value) => {
              setTier(value);
              work.reset();
            }}
            options={[
              { value: '', label: 'Choose …' },
              ...(tiers.data ?? []).map((one) => ({
                value: String(one.tier_id),
                label: one.display_name,
              })),
              { value: 'none', label: 'No tier: take it away' },
            ]}
          />
          <label className="row">
            <input
              type="checkbox"
              checked={strict && ids.length <= CHUNK}
              disabled={ids.length > CHUNK}
              onChange={(event) => {
                setStrict(event.target.checked);
                work.reset();
              }}
            />
            <span>
              All or none
              {ids.length > CHUNK ? (
                <span className="quiet small"> (up to {CHUNK} devices)</span>
              ) : null}
            </span>
          </label>
          <div className="row">
            <Button
              look={checked ? 'plain' : 'primary'}
              busy={running && run.kind === 'check'}
              because={lacking}
              onClick={work.check}
            >
              Check
            </Button>
            <Button
              look={checked ? 'primary' : 'plain'}
              busy={running && run.kind === 'apply'}
              because={
                checked
                  ? changing === 0
                    ? 'Nothing would change'
                    : null
                  : applied
                    ? 'It is done'
                    : 'Check first'
              }
              onClick={work.apply}
            >
              {checked ? `Apply to ${changing.toLocaleString('en')}` : 'Apply'}
            </Button>
            <ButtonLink to="/devices">Cancel</ButtonLink>
          </div>
        </section>
        <div className="stack">
          {tiers.isError ? (
            <Problem
              error={tiers.error}
              tried="The tiers could not be read"
              retry={() => void tiers.refetch()}
            />
          ) : null}
          <Outcome
            run={run}
            strict={strict && ids.length <= CHUNK}
            onStop={work.stop}
            onResume={work.resume}
          />
        </div>
      </div>
    </Page>
  );
}

/** A list that is typed, pasted, chosen as a file or dropped. */
function Source({ text, onChange }: { text: string; onChange: (text: string) => void }) {
  const [over, setOver] = useState(false);
  const file = useRef<HTMLInputElement>(null);
  const read = async (chosen: File | undefined) => {
    if (chosen) onChange(await chosen.text());
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the file input beside it is for the keyboard
    <div
      className={over ? 'drop over stack tight' : 'drop stack tight'}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        void read(event.dataTransfer.files[0]);
      }}
    >
      <div className="field">
        <label htmlFor="ids">Device ids, one a line</label>
        <textarea
          id="ids"
          rows={10}
          spellCheck={false}
          value={text}
          onChange={(event) => onChange(event.target.value)}
        />
        <span className="hint">Or drop a CSV file here: its first column counts.</span>
      </div>
      <div>
        <input
          ref={file}
          type="file"
          accept=".csv,.txt,text/csv,text/plain"
          aria-label="Choose a CSV file"
          onChange={(event) => void read(event.target.files?.[0])}
        />
      </div>
    </div>
  );
}
