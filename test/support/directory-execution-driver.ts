import { createLocalExecutionDriver } from '../../src/execution/local-driver.ts';
import type { ExecutionDriver } from '../../src/execution/driver.ts';

/** Executes in the directory that a lease has: on this machine already, so nothing is brought there or back. */
export const directoryExecutionDriver: ExecutionDriver = {
  name: 'sandbox',
  open(lease, { signal }) {
    const local = createLocalExecutionDriver({ env: { PATH: process.env['PATH'] } });
    return local.open(lease, { workspaceDirectory: lease.providerLeaseId!, signal });
  },
};
