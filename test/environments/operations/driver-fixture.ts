import { randomUUID } from 'node:crypto';
import type { GrantedLease, RunStarted } from '../../../src/contracts/index.ts';
import type { OperationOutcome, OperationSettings } from '../../../src/environments/operations/operation.ts';
import type { TestDatabase } from '../../support/database.ts';
import { insertCompany, insertEnvironment, runStarted } from '../../support/factories.ts';
import { leaseOf, operationsOn, eventsOf } from '../../support/operations.ts';

/** Operations on environments whose leases a driver acquires: what a driver came to is told by the test. */
export function driverOperationsOn(database: TestDatabase) {
  const operations = operationsOn(database);
  const one = async (...given: Parameters<typeof operations.apply>): Promise<OperationOutcome> => {
    const [outcome] = await operations.apply(...given);
    return outcome!;
  };
  const driver = {
    begin: ({ companyId, id: leaseId }: GrantedLease) =>
      one([{ kind: 'begin-acquiring', payload: { companyId, leaseId } }]),
    acquired: ({ companyId, id: leaseId }: GrantedLease, providerLeaseId = `place of ${leaseId}`) =>
      one([{ kind: 'acquired', payload: { companyId, leaseId, providerLeaseId } }]),
    notAcquired: ({ companyId, id: leaseId }: GrantedLease, failure: Partial<NotAcquired> = {}) =>
      one([
        {
          kind: 'not-acquired',
          payload: { companyId, leaseId, reason: 'host is down', attempt: 1, isFinal: false, isOver: true, ...failure },
        },
      ]),
    cleanUp: ({ companyId, id: leaseId }: GrantedLease) => operations.release({ version: 1, companyId, leaseId }),
    cleanedUp: ({ companyId, id: leaseId }: GrantedLease) =>
      one([{ kind: 'cleaned-up', payload: { companyId, leaseId } }]),
    notCleanedUp: ({ companyId, id: leaseId }: GrantedLease, failure: Partial<NotCleanedUp> = {}) =>
      one([
        {
          kind: 'not-cleaned-up',
          payload: { companyId, leaseId, reason: 'host is down', attempt: 1, isFinal: false, ...failure },
        },
      ]),
  };
  return {
    ...operations,
    driver,

    /** A company with an environment of a kind that needs a driver. */
    async remote() {
      const companyId = await insertCompany(database.sql);
      const environmentId = await insertEnvironment(database.sql, { companyId, driver: 'ssh', name: 'box' });
      const run = (overrides: Partial<RunStarted> = {}) =>
        runStarted({ companyId, environment: { project: environmentId }, ...overrides });
      return { companyId, environmentId, run, told: () => eventsOf(database.sql, companyId) };
    },

    /** Starts a run whose lease a driver is to acquire, and returns it. */
    async pending(run: RunStarted, settings: Partial<OperationSettings> = {}): Promise<GrantedLease> {
      const outcome = await operations.start(run, settings);
      if (outcome.kind !== 'acquiring') throw new Error(`no driver is asked: ${JSON.stringify(outcome)}`);
      return outcome.lease;
    },

    /** Starts a run, and has a driver acquire its lease. */
    async active(run: RunStarted): Promise<GrantedLease> {
      const lease = await this.pending(run);
      await driver.begin(lease);
      return leaseOf(await driver.acquired(lease, lease.providerLeaseId ?? `/srv/${randomUUID()}`));
    },
  };
}

interface NotAcquired {
  reason: string;
  attempt: number;
  isFinal: boolean;
  isOver: boolean;
  rejection: { code: 'host_key_rejected'; reason: string };
}

interface NotCleanedUp {
  reason: string;
  attempt: number;
  isFinal: boolean;
}
