/** What a reader chose for this browser: how it looks, and in which zone times are shown. */
import { useSyncExternalStore } from 'react';

const CHOICES = {
  look: ['system', 'light', 'dark'],
  zone: ['utc', 'local'],
} as const;

type Settings = { [Name in keyof typeof CHOICES]: (typeof CHOICES)[Name][number] };

const listeners = new Set<() => void>();

function read<Name extends keyof Settings>(name: Name): Settings[Name] {
  const kept = localStorage.getItem(`pulse.${name}`);
  const known = (CHOICES[name] as readonly string[]).includes(kept ?? '');
  return (known ? kept : CHOICES[name][0]) as Settings[Name];
}

/** Shows the chosen look. */
export function applyLook() {
  const look = read('look');
  if (look === 'system') delete document.documentElement.dataset.look;
  else document.documentElement.dataset.look = look;
}

/** A setting and the way to change it. */
export function useSetting<Name extends keyof Settings>(
  name: Name,
): [Settings[Name], (value: Settings[Name]) => void] {
  const value = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => read(name),
  );
  return [
    value,
    (chosen) => {
      localStorage.setItem(`pulse.${name}`, chosen);
      applyLook();
      for (const listener of listeners) listener();
    },
  ];
}
