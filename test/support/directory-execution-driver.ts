import { createLocalExecutionDriver } from '../../src/execution/local-driver.ts';
import type { ExecutionDriver } from '../../src/execution/driver.ts';

/** Executes in the directory of the lease. It is on this machine, so nothing is uploaded or downloaded. */
export const directoryExecutionDriver: ExecutionDriver = {
  name: 'sandbox',
  open(lease, { signal }) {
    const local = createLocalExecutionDriver({ env: { PATH: process.env['PATH'] } });
    return local.open(lease, { workspaceDirectory: lease.providerLeaseId!, signal });
  },
};
