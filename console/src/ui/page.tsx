import { Link, type LinkProps, useLocation } from '@tanstack/react-router';
import { type ReactNode, useEffect, useRef } from 'react';

interface PageProps {
  title: string;
  /** Beside the heading. */
  actions?: ReactNode;
  /** One sentence: what can be done here. */
  lead?: ReactNode;
  back?: { to: LinkProps; label: string };
  narrow?: boolean;
  children: ReactNode;
}

let first = true;

/** A page: one heading, which gets the focus when the route changes, and the title of the tab. */
export function Page({ title, actions, lead, back, narrow, children }: PageProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  const { pathname } = useLocation();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the focus moves with the path alone
  useEffect(() => {
    if (!first) heading.current?.focus();
    first = false;
  }, [pathname]);
  return (
    <>
      <title>{`${title} · Pulse`}</title>
      <header className="page-head">
        <div>
          {back ? (
            <Link className="crumb" {...back.to}>
              ← {back.label}
            </Link>
          ) : null}
          <h1 ref={heading} tabIndex={-1}>
            {title}
          </h1>
          {lead ? <p>{lead}</p> : null}
        </div>
        {actions ? <div className="row">{actions}</div> : null}
      </header>
      <div className={narrow ? 'stack narrow' : 'stack'}>{children}</div>
    </>
  );
}

/** What holds the place of content that is on its way. */
export function Skeleton({ height }: { height: number }) {
  return (
    <div className="skeleton" style={{ height }} role="status">
      <span className="hidden">Loading</span>
    </div>
  );
}

interface BlankProps {
  title: string;
  children?: ReactNode;
  actions?: ReactNode;
}

/** Nothing is here yet, or nothing with these filters: said in words, with the way on. */
export function Blank({ title, children, actions }: BlankProps) {
  return (
    <div className="card blank">
      <h2>{title}</h2>
      {children ? <p>{children}</p> : null}
      {actions ? <div className="row">{actions}</div> : null}
    </div>
  );
}

type Tone = 'good' | 'warn' | 'bad' | 'info';

interface NoticeProps {
  tone: Tone;
  title: string;
  children?: ReactNode;
  actions?: ReactNode;
}

export function Notice({ tone, title, children, actions }: NoticeProps) {
  return (
    <div className={`notice ${tone}`}>
      <div>
        <strong>{title}</strong>
        {children ? <p>{children}</p> : null}
      </div>
      {actions ? <div className="row">{actions}</div> : null}
    </div>
  );
}
