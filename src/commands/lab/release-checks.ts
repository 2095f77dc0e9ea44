import { existsSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { ENDED_LEASE_STATUSES } from '../../contracts/index.ts';
import type { GrantedLease } from '../../contracts/index.ts';
import type { EnvironmentLease } from '../../environments/service/input.ts';
import type { Execution } from '../../execution/driver.ts';
import { hasCode } from '../../lib/errors.ts';
import { expected, untilLeaseIs, waitUntil } from './check.ts';
import type { LabCheck } from './check.ts';
import { executeAndCollect } from './execution-checks.ts';
import type { Lab } from './lab.ts';

/** A run's end ends what it left running on the host, and removes its directory. */
export const releaseCheck: LabCheck = {
  name: 'release',
  async run(lab, signal) {
    const { lease, pid } = await lab.withLease(async (granted, leaseSignal) => {
      const execution = await lab.executionDriver.open(granted, { signal: leaseSignal });
      try {
        await execution.prepareWorkspace();
        return { lease: granted, pid: await leaveProcess(execution) };
      } finally {
        await execution.close();
      }
    }, signal);
    try {
      await untilLeaseIs(lab, lease.id, 'released', signal);
      expected(!isRunning(pid), `process ${pid} runs on, which the run left running`);
    } finally {
      endProcess(pid);
    }
    expected(!existsSync(lease.providerLeaseId!), `${lease.providerLeaseId} still exists`);
    return 'the lease is released in Postgres; the process that was left running has ended, the directory is removed';
  },
};

/** Enough to observe a retry. */
const ATTEMPTS = 2;

/** A run that ends while its host is down keeps its lease until the host is back: two checks of one lease. */
export function unreachableHostChecks(): [LabCheck, LabCheck] {
  let left: GrantedLease | undefined;
  return [
    {
      name: 'release, server down',
      async run(lab, signal) {
        left = await lab.withLease(async (lease) => {
          await lab.server.stop();
          return lease;
        }, signal);
        await untilLeaseIs(lab, left.id, 'pending_cleanup', signal);
        const { failureReason } = await waitUntil(() => leaseAfterRetries(lab, left!.id), signal);
        expected(existsSync(left.providerLeaseId!), `${left.providerLeaseId} is removed already`);
        return `the lease is pending_cleanup: ${failureReason}`;
      },
    },
    {
      name: 'release, server back',
      async run(lab, signal) {
        await lab.server.start();
        expected(left !== undefined, 'not run: no lease waits for the server');
        const { metadata } = await untilLeaseIs(lab, left.id, 'released', signal);
        const stale = await leftOnHost(lab, signal);
        expected(stale.length === 0, `the host still has ${stale.join(', ')}`);
        return `the lease is released after ${Number(metadata?.['releaseAttempts'])} failed attempts, and nothing is left on the host`;
      },
    },
  ];
}

/** The lease, once its release has failed a few times with a reason; undefined until then. */
async function leaseAfterRetries(lab: Lab, leaseId: string): Promise<EnvironmentLease | undefined> {
  const lease = await lab.environments.getLeaseById(leaseId);
  const attempts = Number(lease?.metadata?.['releaseAttempts'] ?? 0);
  return lease !== null && attempts >= ATTEMPTS && lease.failureReason !== null ? lease : undefined;
}

/** What the host holds once every lease has ended, those of earlier checks too. */
async function leftOnHost(lab: Lab, signal: AbortSignal): Promise<string[]> {
  await waitUntil(async () => {
    const leases = await lab.environments.listLeases(lab.environmentId);
    return leases.every(({ status }) => (ENDED_LEASE_STATUSES as readonly string[]).includes(status)) || undefined;
  }, signal);
  return readdir(lab.remoteWorkspacePath);
}

/**
 * Leaves a process running and prints its id. Where the system shows the variables of processes, even one that daemonized is found.
 */
const LEAVE_PROCESS = `
const { spawn } = require('node:child_process');
const child = spawn('sleep', ['600'], { detached: process.platform === 'linux', stdio: 'ignore' });
child.unref();
console.log(child.pid);`;

/** Has a command leave a process running, and resolves to its id. */
async function leaveProcess(execution: Execution): Promise<number> {
  const { end, stdout, stderr } = await executeAndCollect(execution, [process.execPath, '-e', LEAVE_PROCESS]);
  const pid = Number(stdout);
  expected(end.code === 0 && pid > 0, `no process could be left running: ${stderr}`);
  expected(isRunning(pid), 'the process that was left running ended on its own');
  return pid;
}

/** Whether a process of this machine runs; a zombie does not. */
function isRunning(pid: number): boolean {
  const stat = `/proc/${pid}/stat`;
  try {
    if (existsSync('/proc/self/stat')) return !/\) [ZX] /.test(readFileSync(stat, 'utf8'));
    return process.kill(pid, 0);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return false;
    throw error;
  }
}

/** Ends a process that others should have ended, if it still runs. */
function endProcess(pid: number): void {
  if (isRunning(pid)) process.kill(pid, 'SIGKILL');
}
