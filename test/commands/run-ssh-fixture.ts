import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { createSshDriver } from '../../src/environments/drivers/ssh-driver.ts';
import { createSecretResolver } from '../../src/secrets/resolver.ts';
import { startWorker } from '../consumers/fixture.ts';
import { insertCompany, insertEnvironment } from '../support/factories.ts';
import type { Backend } from '../support/queues.ts';
import { newRun } from './run-fixture.ts';

/** A worker that leases SSH environments. */
export function startSshWorker(backend: Backend) {
  return startWorker(backend, {
    enableEnvironments: true,
    drivers: [createSshDriver({ secrets: createSecretResolver({ env: {}, secretKey: undefined }) })],
  });
}

/** A run of a company with an environment on the host. */
export async function runOn(backend: Backend, { config }: { config: Record<string, unknown> }) {
  const { sql } = backend.database;
  const run = newRun(backend);
  await insertCompany(sql, { id: run.companyId });
  const row = { companyId: run.companyId, driver: 'ssh', name: 'Builder', config } as const;
  const environmentId = await insertEnvironment(sql, row);
  return { ...run, args: [...run.args, '--environment', environmentId], environmentId };
}

/** A directory with these files in it. */
export async function workspaceOf(files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-workspace-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(directory, path, '..'), { recursive: true });
    await writeFile(join(directory, path), content);
  }
  return directory;
}
