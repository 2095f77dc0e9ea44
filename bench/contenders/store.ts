import { DEFAULT_TTL_SECONDS } from '../../src/contracts/index.ts';
import { openWorkerPool } from '../../src/db/worker-pool.ts';
import { applyBatch } from '../../src/environments/operations/apply.ts';
import { ProvisionedCompanies } from '../../src/environments/operations/fast-path.ts';
import type { Operation, OperationSettings } from '../../src/environments/operations/operation.ts';
import { finishOf, startOf } from '../workload.ts';
import type { Phase, Run } from '../workload.ts';
import type { Contender } from './contender.ts';

/** The fastest combination that was measured. */
const BATCH_SIZE = 400;
const BATCHES_IN_FLIGHT = 2;

const SETTINGS: OperationSettings = {
  actor: { type: 'system', id: 'bench' },
  companyRegistration: 'auto',
  defaultTtlSeconds: DEFAULT_TTL_SECONDS,
  leaseWaitMs: 300_000,
  leasable: { enabled: false, drivers: new Set() },
};

/** The limit of the store: two batches in flight, always full, which share no company and so never wait for a lock. */
export const store: Contender = {
  label: 'set-based SQL, no queue',
  title: 'set-based SQL straight into Postgres, no queue',
  packages: ['pg', 'drizzle-orm'],
  settings: { batchSize: BATCH_SIZE, batchesInFlight: BATCHES_IN_FLIGHT },
  writesRows: true,

  async open({ databaseUrl }, runs) {
    const db = openWorkerPool(databaseUrl, { maximumConnections: BATCHES_IN_FLIGHT });
    const provisioned = new ProvisionedCompanies();
    let batches: Operation[][][] = [];
    return {
      async load(phase) {
        batches = shareByCompany(runs).map((share) => inBatches(share.map((run) => operationFor(phase, run))));
      },
      async drain() {
        await Promise.all(
          batches.map(async (share) => {
            for (const batch of share) {
              const outcomes = await applyBatch(db, batch, SETTINGS, { provisioned });
              await Promise.all(outcomes.map(async (outcome) => outcome));
            }
          }),
        );
      },
      violations: () => [],
      close: () => db.close(),
    };
  },
};

function shareByCompany(runs: readonly Run[]): Run[][] {
  const companies = [...new Set(runs.map((run) => run.companyId))];
  const shareOf = new Map(companies.map((companyId, number) => [companyId, number % BATCHES_IN_FLIGHT]));
  return Array.from({ length: BATCHES_IN_FLIGHT }, (_, share) =>
    runs.filter((run) => shareOf.get(run.companyId) === share),
  );
}

function inBatches(operations: readonly Operation[]): Operation[][] {
  const batches = [];
  for (let first = 0; first < operations.length; first += BATCH_SIZE) {
    batches.push(operations.slice(first, first + BATCH_SIZE));
  }
  return batches;
}

function operationFor(phase: Phase, run: Run): Operation {
  return phase === 'start' ? { kind: 'start', payload: startOf(run) } : { kind: 'finish', payload: finishOf(run) };
}
