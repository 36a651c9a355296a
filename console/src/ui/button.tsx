import { createLink } from '@tanstack/react-router';
import type { ComponentProps, ReactNode } from 'react';

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

function Anchor({ look = 'plain', ...anchor }: ComponentProps<'a'> & { look?: Look }) {
  return <a className={`button ${look}`} {...anchor} />;
}

/** A way to a page that looks like a button. */
export const ButtonLink = createLink(Anchor);
