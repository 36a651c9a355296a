/** What the console waits for before it asks again: shown by one banner. */
import { useSyncExternalStore } from 'react';

let until = 0;
const listeners = new Set<() => void>();

function set(instant: number) {
  until = instant;
  for (const listener of listeners) listener();
}

/** Waits so many seconds, told to the reader. */
export async function wait(seconds: number): Promise<void> {
  const end = Date.now() + seconds * 1000;
  set(Math.max(until, end));
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  if (until <= end) set(0);
}

/** The instant (milliseconds) of the next try; 0 while nothing waits. */
export function useWaiting(): number {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => until,
  );
}
