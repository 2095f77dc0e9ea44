import { randomUUID } from 'node:crypto';
import { beforeAll } from 'vitest';
import { environmentService } from '../../../src/environments/service/index.ts';
import type { EnvironmentService } from '../../../src/environments/service/index.ts';
import { useDatabase } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { eventsOf } from '../../support/operations.ts';

/** The environment service of an operator, on a database of the file's own. */
export function useEnvironmentService() {
  return useEnvironmentServiceOn(useDatabase({ maximumConnections: 20, audited: true }));
}

/** The environment service of an operator, on a database that the file has already. */
export function useEnvironmentServiceOn(database: TestDatabase) {
  let opened: EnvironmentService | undefined;
  beforeAll(() => {
    opened = environmentService(database.db, { actor: { type: 'user', id: 'operator' } });
  });
  const service = () => {
    if (opened === undefined) throw new Error('the service is there only within hooks and tests');
    return opened;
  };

  /** A company with its Local, and what was told of it without that. */
  async function newCompany() {
    const companyId = randomUUID();
    const local = await service().ensureLocalEnvironment(companyId);
    const told = async () => (await eventsOf(database.sql, companyId)).slice(1);
    return { companyId, local, told };
  }

  /** A live lease of a new run. */
  async function newLease() {
    const company = await newCompany();
    const runId = randomUUID();
    const request = { companyId: company.companyId, environmentId: company.local.id, heartbeatRunId: runId };
    const lease = await service().acquireLease(request);
    return { ...company, runId, request, lease };
  }

  return {
    database,
    get service() {
      return service();
    },
    newCompany,
    newLease,
  };
}
