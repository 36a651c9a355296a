import { defineConfig } from '@playwright/test';
import { stack } from './e2e/stack';

/** The tests run on a stack that runs already: `cargo xtask console test`. */
export default defineConfig({
  testDir: 'e2e',
  outputDir: 'test-results',
  // One worker: the machine also runs the stack.
  workers: 1,
  timeout: 60_000,
  expect: { timeout: 15_000 },
  forbidOnly: true,
  reporter: [['list']],
  testIgnore: process.env.PULSE_PICTURES ? [] : ['**/pictures.spec.ts'],
  use: {
    baseURL: stack('CONSOLE_URL'),
    viewport: { width: 1280, height: 800 },
    trace: 'retain-on-failure',
    launchOptions: {
      executablePath: process.env.PULSE_CHROMIUM ?? '/usr/bin/chromium',
      args: ['--no-sandbox'],
    },
  },
});
