import { existsSync, readFileSync } from 'node:fs';
import react from '@vitejs/plugin-react';
import { defineConfig, type Plugin } from 'vite';

/** `/config.json` of the running stack, for `npm run dev`; in a build the server has it. */
function stackConfig(): Plugin {
  return {
    name: 'stack-config',
    configureServer(server) {
      server.middlewares.use('/config.json', (_request, response) => {
        const file = new URL('../.dev/console/config.json', import.meta.url);
        if (!existsSync(file)) {
          response.statusCode = 503;
          response.end('No stack runs: start one with `cargo xtask dev`.');
          return;
        }
        response.setHeader('Content-Type', 'application/json');
        response.end(readFileSync(file));
      });
    },
  };
}

export default defineConfig({
  plugins: [react(), stackConfig()],
  // The realm knows this address beside the one that the stack serves.
  server: { port: 5173, strictPort: true, host: 'localhost' },
  build: {
    target: 'es2022',
    manifest: true,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
});
