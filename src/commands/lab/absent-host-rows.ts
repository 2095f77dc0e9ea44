import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { ENDED_LEASE_STATUSES } from '../../contracts/index.ts';
import type { GrantedLease } from '../../contracts/index.ts';
import type { EnvironmentLease } from '../../environments/service/input.ts';
import type { Lab } from './lab.ts';
import { leaseInStatus } from './lease-in-status.ts';
import { expected } from './row.ts';
import type { LabRow } from './row.ts';
import { waitUntil } from './wait-until.ts';

/** Enough to see that it is tried again. */
const ATTEMPTS = 2;

/** A run that ends while its host is down keeps its lease until the host is back: two rows about one lease. */
export function absentHostRows(): [LabRow, LabRow] {
  let left: GrantedLease | undefined;
  return [
    {
      name: 'release, server down',
      async run(lab, signal) {
        left = await lab.withLease(async (lease) => {
          await lab.server.stop();
          return lease;
        }, signal);
        await leaseInStatus(lab, left.id, 'pending_cleanup', signal);
        const { failureReason } = await waitUntil(() => triedOften(lab, left!.id), signal);
        expected(existsSync(left.providerLeaseId!), `${left.providerLeaseId} is gone already`);
        return `the lease is pending_cleanup: ${failureReason}`;
      },
    },
    {
      name: 'release, server back',
      async run(lab, signal) {
        await lab.server.start();
        expected(left !== undefined, 'not tried: there is no lease whose release waits for the server');
        const { metadata } = await leaseInStatus(lab, left.id, 'released', signal);
        const rest = await restOnHost(lab, signal);
        expected(rest.length === 0, `the host has still ${rest.join(', ')}`);
        return `the lease is released after ${Number(metadata?.['releaseAttempts'])} failed attempts, and nothing is left on the host`;
      },
    },
  ];
}

/** The lease, once its release has failed a few times and says why; undefined until then. */
async function triedOften(lab: Lab, leaseId: string): Promise<EnvironmentLease | undefined> {
  const lease = await lab.environments.getLeaseById(leaseId);
  const attempts = Number(lease?.metadata?.['releaseAttempts'] ?? 0);
  return lease !== null && attempts >= ATTEMPTS && lease.failureReason !== null ? lease : undefined;
}

/** What is on the host once every lease has ended, those of the rows before too. */
async function restOnHost(lab: Lab, signal: AbortSignal): Promise<string[]> {
  await waitUntil(async () => {
    const leases = await lab.environments.listLeases(lab.environmentId);
    return leases.every(({ status }) => (ENDED_LEASE_STATUSES as readonly string[]).includes(status)) || undefined;
  }, signal);
  return readdir(lab.remoteWorkspacePath);
}
