import { randomUUID } from 'node:crypto';
import type { Sql } from 'postgres';
import { GroupCommit } from '../../src/consumers/group-commit.ts';
import { sweepLeases } from '../../src/consumers/sweep/leases.ts';
import type { LeaseSweepResult } from '../../src/consumers/sweep/leases.ts';
import { LessorError } from '../../src/contracts/index.ts';
import type { ErrorCode } from '../../src/contracts/index.ts';
import type { Operation } from '../../src/environments/operations/operation.ts';
import { environmentService } from '../../src/environments/service/index.ts';
import type { EnvironmentService } from '../../src/environments/service/index.ts';
import type { EnvironmentLease } from '../../src/environments/service/input.ts';
import { silentLogger } from '../consumers/fixture.ts';
import type { TestDatabase } from '../support/database.ts';
import { SSH_CONFIG, runStarted } from '../support/factories.ts';
import { operationsOn, start } from '../support/operations.ts';
import type { Applied } from '../support/operations.ts';
import { operationOf } from './message-as-operation.ts';
import type { Message } from './model-messages.ts';
import type { Acquisition } from './model-service.ts';
import { LEASE_WAIT_SECONDS } from './model-single-flight.ts';
import type { Location } from './model.ts';
import { DRIVERS } from './names.ts';
import type { Names } from './names.ts';

/** The outcome of an action in Postgres, with ids not named yet. */
export type Raw =
  | ({ kind: 'operation' } & Applied)
  | { kind: 'lease'; lease: EnvironmentLease }
  | { kind: 'leases'; leases: EnvironmentLease[] }
  | { kind: 'rejected'; code: ErrorCode }
  | { kind: 'current' }
  | { kind: 'failed' };

const ACTOR = { type: 'system', id: 'model' } as const;

/** The code under test on a real Postgres, addressed in terms of the model. */
export class PostgresSide {
  readonly service: EnvironmentService;
  /** Whether workers lease environments other than `Local`. */
  environmentsEnabled = true;
  readonly #database: TestDatabase;
  readonly #names: Names;
  readonly #operations: ReturnType<typeof operationsOn>;

  constructor(database: TestDatabase, names: Names) {
    this.service = environmentService(database.db, { actor: ACTOR });
    this.#database = database;
    this.#names = names;
    this.#operations = operationsOn(database);
  }

  get sql(): Sql {
    return this.#database.sql;
  }

  /** Carries out messages as one batch. */
  async deliver(messages: readonly Message[]): Promise<Raw[]> {
    const carriedOut = await this.#apply(await this.#operationsOf(messages));
    return carriedOut.map((each) => ({ kind: 'operation', ...each }));
  }

  /** Submits messages to a worker's group commit in one turn, and among them one that Postgres cannot store. */
  async deliverWithPoison(messages: readonly Message[], poisonAt: number): Promise<Raw[]> {
    const operations = await this.#operationsOf(messages);
    const poison = runStarted({ companyId: this.#names.companies[0]!, metadata: { text: '\u0000' } });
    operations.splice(poisonAt, 0, start(poison));
    const groupCommit = new GroupCommit<Operation, Applied>({
      maxBatchSize: operations.length,
      maxBatchesInFlight: 1,
      slowBatchThresholdMs: 1,
      keyOf: (operation) => operation.payload.companyId,
      subjectOf: (operation) => String(operations.indexOf(operation)),
      commit: (batch) => this.#apply(batch),
    });
    const settled = await Promise.allSettled(operations.map((operation) => groupCommit.submit(operation)));
    return settled.map((result) =>
      result.status === 'fulfilled' ? { kind: 'operation', ...result.value } : { kind: 'failed' },
    );
  }

  async acquire({ company, location, run, workspace, policy }: Acquisition): Promise<Raw> {
    const environmentId = (await this.environmentId(company, location)) ?? randomUUID();
    return this.#callService(async () => ({
      kind: 'lease',
      lease: await this.service.acquireLease({
        companyId: this.#names.companies[company]!,
        environmentId,
        heartbeatRunId: run === undefined ? null : this.#names.runs[run],
        executionWorkspaceId: workspace === undefined ? null : this.#names.workspaces[workspace],
        leasePolicy: policy,
      }),
    }));
  }

  /** Calls the service, which may reject. */
  async #callService(ask: () => Promise<Raw>): Promise<Raw> {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof LessorError) return { kind: 'rejected', code: error.code };
      throw error;
    }
  }

  release(leaseName: string, status: Parameters<EnvironmentService['releaseLease']>[1]): Promise<Raw> {
    const id = this.#names.leaseNamed(leaseName);
    return this.#callService(async () => ({ kind: 'lease', lease: await this.service.releaseLease(id, status) }));
  }

  releaseRun(run: number, status: Parameters<EnvironmentService['releaseLeasesForRun']>[1]): Promise<Raw> {
    const runId = this.#names.runs[run]!;
    return this.#callService(async () => ({
      kind: 'leases',
      leases: await this.service.releaseLeasesForRun(runId, status),
    }));
  }

  /** Asserts the current token of the lease: a pending one gets another token when it is acquired. */
  async assertCurrent(leaseName: string): Promise<Raw> {
    const id = this.#names.leaseNamed(leaseName);
    const { fencingToken } = (await this.service.getLeaseById(id))!;
    return this.#callService(async () => {
      await this.service.assertCurrent(id, fencingToken);
      return { kind: 'current' };
    });
  }

  sweep(): Promise<LeaseSweepResult> {
    return sweepLeases({
      db: this.#database.db,
      actor: ACTOR,
      logger: silentLogger,
      requestReleases: async () => undefined,
      // Small, so that a sweep has several pages.
      batchSize: 3,
    });
  }

  /** Creates an environment for a company, unless it has one at the location. */
  async makeEnvironment(company: number, location: Location): Promise<void> {
    const companyId = this.#names.companies[company]!;
    if (location === 'local') await this.service.ensureLocalEnvironment(companyId);
    else if ((await this.environmentId(company, location)) === undefined) {
      await this.service.create(companyId, { name: 'Host', driver: DRIVERS[location], config: SSH_CONFIG });
    }
  }

  async environmentId(company: number, location: Location): Promise<string | undefined> {
    const [found] = await this.sql<{ id: string }[]>`
      select id from lessor.environments
      where company_id = ${this.#names.companies[company]!} and driver = ${DRIVERS[location]}`;
    return found?.id;
  }

  #apply(operations: readonly Operation[]): Promise<Applied[]> {
    return this.#operations.applyInParts(operations, {
      leaseWaitMs: LEASE_WAIT_SECONDS * 1_000,
      leasable: { enabled: this.environmentsEnabled, drivers: new Set([DRIVERS.host]) },
    });
  }

  #operationsOf(messages: readonly Message[]): Promise<Operation[]> {
    const environmentId = (company: number, location: Location) => this.environmentId(company, location);
    return Promise.all(
      messages.map((message) => operationOf(message, { names: this.#names, sql: this.sql, environmentId })),
    );
  }
}
