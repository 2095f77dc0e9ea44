import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeOnEachBackend } from '../support/queues.ts';
import { FAILED_REASON, runTwoJobs, listenOnLoopback } from '../api/fixture.ts';
import { storesOf } from '../api/stores.ts';
import { pathOf } from '../ssh/programs.ts';

const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome'];
const BROWSER_OF_MACOS = '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome';

const executablePath =
  process.env['CHROMIUM_PATH'] ??
  BROWSERS.map((name) => pathOf(name)).find((path) => path !== undefined) ??
  (existsSync(BROWSER_OF_MACOS) ? BROWSER_OF_MACOS : undefined);

/** Skips the test where there is no browser, except in CI, which must have one. */
function browserPath(skip: (reason: string) => never): string {
  if (executablePath !== undefined) return executablePath;
  if (process.env['CI'] === 'true') throw new Error('CI must try the board in a browser; set CHROMIUM_PATH');
  return skip('Chromium is not on the PATH; set CHROMIUM_PATH to try the board in one');
}

describeOnEachBackend('the console in a browser', (backend) => {
  const stores = storesOf(backend);
  beforeAll(() => runTwoJobs(stores));

  it('shows why a job failed', { timeout: 60_000 }, async ({ skip, onTestFinished }) => {
    const path = browserPath(skip);
    const credentials = { username: 'operator', password: 'correct horse' };
    const { url } = await listenOnLoopback({ ...stores, credentials });

    // Chromium's own sandbox wants a user other than root and namespaces that containers often lack.
    const browser = await chromium.launch({ executablePath: path, args: ['--no-sandbox'] });
    onTestFinished(() => browser.close());
    const page = await browser.newPage({ httpCredentials: credentials });
    await page.goto(url);
    await page.getByRole('link', { name: 'run-started' }).first().click();
    await page
      .getByRole('link', { name: /^failed/i })
      .first()
      .click();

    await page.getByText(FAILED_REASON).first().waitFor({ timeout: 20_000 });
    expect(new URL(page.url()).pathname).toBe('/queues/queue/run-started');
    expect(new URL(page.url()).searchParams.get('status')).toBe('failed');
  });
});
