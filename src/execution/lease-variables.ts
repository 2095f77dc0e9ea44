import type { GrantedLease } from '../contracts/index.ts';

/** What a command is told of its lease: `PAPERCLIP_ENVIRONMENT` is where it runs, as JSON. */
export function leaseVariables(lease: GrantedLease, workspacePath: string): Record<string, string> {
  return {
    LESSOR_RUN_ID: lease.runId,
    LESSOR_LEASE_ID: lease.id,
    LESSOR_FENCING_TOKEN: String(lease.fencingToken),
    PAPERCLIP_ENVIRONMENT: JSON.stringify({ ...lease.environment, workspacePath }),
  };
}
