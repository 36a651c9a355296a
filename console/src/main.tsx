import './ui/base.css';
import './ui/layout.css';
import './ui/parts.css';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { type ReactNode, StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Refusal } from './api/problem';
import { begin, signIn } from './auth/session';
import { config } from './config';
import { router } from './router';
import { Button } from './ui/button';
import { Plain } from './ui/plain';
import { applyLook } from './ui/settings';

applyLook();
const root = createRoot(document.getElementById('root') as HTMLElement);
const show = (page: ReactNode) => root.render(<StrictMode>{page}</StrictMode>);

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      // The client has tried again already.
      retry: false,
      // A refusal for good is not asked again by a look at the tab.
      refetchOnWindowFocus: (query) =>
        !(query.state.error instanceof Refusal) || query.state.error.passing,
    },
  },
});

/** A new version took the place of a page's file: its address is gone. */
window.addEventListener('vite:preloadError', (event) => {
  event.preventDefault();
  show(
    <Plain title="A new version is here">
      <p>The console was updated. Reload to go on; what you typed is kept.</p>
      <Button look="primary" onClick={() => location.reload()}>
        Reload
      </Button>
    </Plain>,
  );
});

async function start() {
  if (!config) {
    show(
      <Plain title="The console cannot start">
        <p>Its settings cannot be read at this address. Try again in a moment.</p>
        <Button look="primary" onClick={() => location.reload()}>
          Try again
        </Button>
      </Plain>,
    );
    return;
  }
  try {
    const state = await begin();
    if (state === 'leaving') return;
    if (state === 'signed-out') {
      show(
        <Plain title="You are signed out">
          <p>Close this tab, or sign in again.</p>
          <Button look="primary" onClick={() => void signIn()}>
            Sign in
          </Button>
        </Plain>,
      );
      return;
    }
    show(
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>,
    );
  } catch (error) {
    show(
      <Plain title="Signing in did not work">
        <p>{error instanceof Error ? error.message : 'The login server did not answer.'}</p>
        <Button look="primary" onClick={() => location.assign('/')}>
          Try again
        </Button>
      </Plain>,
    );
  }
}

void start();
