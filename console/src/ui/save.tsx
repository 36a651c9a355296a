import { useMutation } from '@tanstack/react-query';
import { type ReactNode, useState } from 'react';
import { asRefusal, type Refusal } from '../api/problem';
import { type Draft, type Fields, useDraft } from './draft';
import { MergeDialog } from './merge';
import { differences } from './merge.rule';

interface SaveOptions<T extends { version: number }> {
  /** Under which what was typed is kept. */
  name: string;
  /** As it is now. */
  saved: T;
  /** What the form has of it. */
  fields: (of: T) => Fields;
  labels: Readonly<Record<string, string>>;
  /** Writes what differs from `base`, if the object still has this version. */
  put: (version: number, base: Fields, now: Fields) => Promise<T>;
  read: () => Promise<T>;
  onSaved: (now: T) => void;
}

interface Save {
  draft: Draft;
  busy: boolean;
  /** A refusal to show; that of another version is the dialog's. */
  refusal: Refusal | null;
  submit: () => void;
  discard: () => void;
  /** The merge dialog, while it is open. */
  dialog: ReactNode;
}

/** A form over one object with a version: kept while it is typed, merged where two people save. */
export function useSave<T extends { version: number }>(options: SaveOptions<T>): Save {
  const { saved, fields } = options;
  const draft = useDraft(options.name, fields(saved), saved.version);
  const [theirs, setTheirs] = useState<T | null>(null);
  const done = (now: T) => {
    draft.clear(fields(now), now.version);
    setTheirs(null);
    options.onSaved(now);
  };
  const save = useMutation({
    mutationFn: ({ version, base, now }: { version: number; base: Fields; now: Fields }) =>
      options.put(version, base, now),
    onSuccess: done,
    onError: async (error, { now }) => {
      if (asRefusal(error).code !== 'version_changed') return;
      const newer = await options.read();
      // A lost answer: what was to be saved is there already.
      const there = fields(newer);
      if (differences(there, there, now).length === 0) done(newer);
      else setTheirs(newer);
    },
  });
  const refusal = save.error ? asRefusal(save.error) : null;
  return {
    draft,
    busy: save.isPending,
    refusal: refusal?.code === 'version_changed' ? null : refusal,
    submit: () => save.mutate({ version: draft.version, base: draft.base, now: draft.fields }),
    discard: () => {
      draft.clear(fields(saved), saved.version);
      save.reset();
    },
    dialog: theirs ? (
      <MergeDialog
        base={draft.base}
        theirs={fields(theirs)}
        mine={draft.fields}
        labels={options.labels}
        onClose={() => setTheirs(null)}
        onSave={(now) => {
          const base = fields(theirs);
          draft.rebase(base, theirs.version, now);
          setTheirs(null);
          save.mutate({ version: theirs.version, base, now });
        }}
      />
    ) : null,
  };
}

/** The body of an update: only what differs, `null` for an empty field. */
export function changed(base: Fields, now: Fields): Record<string, string | null> {
  const names = Object.keys(now).filter((name) => base[name] !== now[name]);
  return Object.fromEntries(names.map((name) => [name, now[name] || null]));
}
