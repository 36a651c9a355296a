import { useState } from 'react';
import { Button } from './button';
import { Dialog } from './dialog';
import type { Fields } from './draft';
import { type Difference, differences, merged } from './merge.rule';

interface MergeProps {
  base: Fields;
  theirs: Fields;
  mine: Fields;
  labels: Readonly<Record<string, string>>;
  onSave: (fields: Fields) => void;
  onClose: () => void;
}

/** Somebody else saved in between: both changes side by side, and one way to keep them. */
export function MergeDialog({ base, theirs, mine, labels, onSave, onClose }: MergeProps) {
  const all = differences(base, theirs, mine);
  const [chosen, setChosen] = useState<Record<string, 'theirs' | 'mine'>>({});
  const open = all.filter((at) => at.conflict && !chosen[at.field]);
  return (
    <Dialog title="Somebody else saved in the meantime" onClose={onClose}>
      <p>
        Nothing is lost. What only one of you changed is taken as it is
        {all.some((at) => at.conflict) ? '; where both did, choose one.' : '.'}
      </p>
      <div className="card table-card">
        <table className="table merge">
          <caption className="hidden">The fields that differ</caption>
          <thead>
            <tr>
              <th scope="col">Field</th>
              <th scope="col">Before</th>
              <th scope="col">Theirs</th>
              <th scope="col">Yours</th>
            </tr>
          </thead>
          <tbody>
            {all.map((at) => (
              <tr key={at.field}>
                <td className="lead">{labels[at.field] ?? at.field}</td>
                <td data-label="Before">{at.base || '—'}</td>
                <Side
                  at={at}
                  side="theirs"
                  chosen={chosen[at.field]}
                  choose={() => setChosen({ ...chosen, [at.field]: 'theirs' })}
                />
                <Side
                  at={at}
                  side="mine"
                  chosen={chosen[at.field]}
                  choose={() => setChosen({ ...chosen, [at.field]: 'mine' })}
                />
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div className="row ends">
        <Button onClick={onClose}>Back to the form</Button>
        <Button
          look="primary"
          because={open.length > 0 ? 'Choose a side in each conflict first' : null}
          onClick={() => onSave(merged(theirs, all, chosen))}
        >
          Save both changes
        </Button>
      </div>
    </Dialog>
  );
}

interface SideProps {
  at: Difference;
  side: 'theirs' | 'mine';
  chosen: 'theirs' | 'mine' | undefined;
  choose: () => void;
}

function Side({ at, side, chosen, choose }: SideProps) {
  const label = side === 'theirs' ? 'Theirs' : 'Yours';
  const value = at[side] || '—';
  if (!at.conflict) {
    const taken = at[side] !== at.base;
    return (
      <td data-label={label} className={taken ? 'taken' : ''}>
        {value}
        {taken ? <span className="hidden"> (taken)</span> : null}
      </td>
    );
  }
  return (
    <td data-label={label} className={chosen === side ? 'taken' : ''}>
      <label>
        <input
          type="radio"
          name={`merge-${at.field}`}
          checked={chosen === side}
          onChange={choose}
        />{' '}
        {value}
      </label>
    </td>
  );
}
