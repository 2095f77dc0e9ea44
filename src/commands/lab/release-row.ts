import { existsSync } from 'node:fs';
import { endProcess, isRunning, leaveProcess } from './left-process.ts';
import { leaseInStatus } from './lease-in-status.ts';
import { expected } from './row.ts';
import type { LabRow } from './row.ts';

/** A run's end ends what it left running on the host, and removes its directory. */
export const releaseRow: LabRow = {
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
      await leaseInStatus(lab, lease.id, 'released', signal);
      expected(!isRunning(pid), `process ${pid} runs on, which the run left running`);
    } finally {
      endProcess(pid);
    }
    expected(!existsSync(lease.providerLeaseId!), `${lease.providerLeaseId} is there still`);
    return 'the lease is released in Postgres; the process that was left running has ended, the directory is gone';
  },
};
