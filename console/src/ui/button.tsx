import { Link, type LinkProps } from '@tanstack/react-router';
import type { ReactNode } from 'react';

type Look = 'plain' | 'primary' | 'danger' | 'bare';

interface ButtonProps {
  children: ReactNode;
  look?: Look;
  type?: 'button' | 'submit';
  onClick?: () => void;
  /** The work that it started still runs. */
  busy?: boolean;
  /** Why it cannot be pressed now: it stays in the tab order and says so. */
  because?: string | null | undefined;
}

export function Button(props: ButtonProps) {
  const { children, look = 'plain', type = 'button', busy, because } = props;
  const off = busy || Boolean(because);
  return (
    <button
      type={type}
      className={`button ${look}`}
      aria-disabled={off || undefined}
      aria-busy={busy || undefined}
      title={because ?? undefined}
      onClick={(event) => {
        if (off) event.preventDefault();
        else props.onClick?.();
      }}
    >
      {busy ? 'One moment …' : children}
      {because ? <span className="hidden"> ({because})</span> : null}
    </button>
  );
}

/** A way to a page that looks like a button. */
export function ButtonLink({ look = 'plain', ...link }: LinkProps & { look?: Look }) {
  return <Link className={`button ${look}`} {...link} />;
}
