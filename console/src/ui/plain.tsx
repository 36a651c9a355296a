import type { ReactNode } from 'react';

/** A page without the frame: before the sign-in, after it, and where it has no sense. */
export function Plain({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="plain">
      <title>{`${title} · Pulse`}</title>
      <div className="card">
        <span className="brand">
          <img src="/icon.svg" alt="" />
          Pulse
        </span>
        <h1>{title}</h1>
        {children}
      </div>
    </main>
  );
}
