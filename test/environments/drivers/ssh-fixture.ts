import { randomUUID } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { createSshDriver } from '../../../src/environments/drivers/ssh-driver.ts';
import type { SshDriverOptions } from '../../../src/environments/drivers/ssh-driver.ts';
import type { LeasePolicy } from '../../../src/contracts/index.ts';
import type { ConfigPart, SshHost } from '../../support/ssh-host.ts';
import { noAbort, secrets } from '../../support/ssh-host.ts';

/** The driver, and an environment with a workspace path of its own on a host. */
export async function openEnvironment(host: SshHost, part: ConfigPart = {}, options: Partial<SshDriverOptions> = {}) {
  const driver = createSshDriver({ secrets, graceSeconds: 1, keepAliveIntervalMs: 300, ...options });
  onTestFinished(() => driver.close());
  const root = await host.newWorkspace();
  const config = host.parsedConfig({ remoteWorkspacePath: root, ...part });
  const environment = { id: randomUUID(), companyId: randomUUID(), config };

  const acquire = (leaseId: string, providerLeaseId: string | null = null, signal = noAbort()) => {
    const leasePolicy: LeasePolicy = providerLeaseId === null ? 'ephemeral' : 'reuse_by_environment';
    return driver.acquire(
      { environment, leaseId, leasePolicy, executionWorkspaceId: null, providerLeaseId },
      { signal },
    );
  };
  return {
    driver,
    environment,
    root,
    acquire,
    /** A new lease and its directory. */
    newLease: async () => {
      const leaseId = randomUUID();
      return { leaseId, directory: (await acquire(leaseId)).providerLeaseId };
    },
    release: (leaseId: string, providerLeaseId: string | null, signal = noAbort()) =>
      driver.release({ environment, leaseId, providerLeaseId }, { signal }),
  };
}
