import { useRef, useState } from 'react';
import { api, take } from '../api/client';
import { asRefusal, type Refusal } from '../api/problem';
import { CHUNK, type Result } from './assign.rule';

export interface Run {
  kind: 'check' | 'apply';
  state: 'running' | 'stopped' | 'done' | 'failed';
  total: number;
  results: Result[];
  refusal: Refusal | null;
}

/**
 * Goes through the ids in requests of 500. It stops between two of them, and resumes where it
 * stopped: what was done stays done, and asking again changes nothing.
 */
export function useAssignment(ids: readonly string[], tier: number | null, strict: boolean) {
  const [run, setRun] = useState<Run | null>(null);
  const halt = useRef(false);

  async function go(kind: Run['kind'], before: Result[]) {
    halt.current = false;
    let results = before;
    const show = (state: Run['state'], refusal: Refusal | null = null) =>
      setRun({ kind, state, total: ids.length, results, refusal });
    show('running');
    while (results.length < ids.length) {
      if (halt.current) return show('stopped');
      try {
        const answer = await take(
          api.POST('/api/v1/customer/devices/tier-assignments', {
            params: { query: { dry_run: kind === 'check' } },
            body: {
              device_ids: ids.slice(results.length, results.length + CHUNK),
              tier_id: tier,
              all_or_nothing: strict && ids.length <= CHUNK,
            },
          }),
        );
        results = [...results, ...answer.results];
        show('running');
      } catch (error) {
        return show('failed', asRefusal(error));
      }
    }
    show('done');
  }

  return {
    run,
    check: () => void go('check', []),
    apply: () => void go('apply', []),
    resume: () => run && void go(run.kind, run.results),
    stop: () => {
      halt.current = true;
    },
    reset: () => setRun(null),
  };
}
