import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { RunStarted } from '../../src/contracts/index.ts';
import { directoryDriver } from '../support/directory-driver.ts';
import { insertCompany, insertEnvironment, runStarted } from '../support/factories.ts';
import type { Backend } from '../support/queues.ts';

/** A company with an environment in which leases are directories. */
export async function companyWithDirectories({ database }: Backend) {
  const root = await mkdtemp(join(tmpdir(), 'lessor-directories-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const companyId = await insertCompany(database.sql);
  const config = { root };
  const environmentId = await insertEnvironment(database.sql, { companyId, driver: 'sandbox', name: 'box', config });
  return {
    companyId,
    environmentId,
    root,
    run: (overrides: Partial<RunStarted> = {}) =>
      runStarted({ companyId, environment: { agent: environmentId }, ...overrides }),
    /** The directories of the leases. */
    directories: () => readdir(root),
  };
}

/** The settings of a worker that leases directories. `overrides` replaces calls of the driver. */
export const withDirectories = (overrides: Partial<Pick<typeof directoryDriver, 'acquire' | 'release'>> = {}) => ({
  enableEnvironments: true,
  drivers: [{ ...directoryDriver, ...overrides }],
});
