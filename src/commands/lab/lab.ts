import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { WorkerSettings } from '../../consumers/worker-settings.ts';
import { createWorker } from '../../consumers/worker.ts';
import type { GrantedLease } from '../../contracts/index.ts';
import { createDb } from '../../db/connection.ts';
import { migrate } from '../../db/migrate.ts';
import { startEmbeddedPostgres } from '../../embedded/index.ts';
import { openEphemeralSshd } from '../../embedded/sshd/ephemeral-sshd.ts';
import type { EphemeralSshd } from '../../embedded/sshd/ephemeral-sshd.ts';
import type { ProbeReport } from '../../environments/drivers/driver.ts';
import { createSshDriver } from '../../environments/drivers/ssh-driver.ts';
import { environmentService } from '../../environments/service/index.ts';
import type { EnvironmentService } from '../../environments/service/index.ts';
import type { ExecutionDriver } from '../../execution/driver.ts';
import { createSshExecutionDriver } from '../../execution/ssh/ssh-driver.ts';
import { Closers } from '../../lib/closers.ts';
import { createHeartbeatProducer } from '../../producers/producer.ts';
import { withLease } from '../../producers/with-lease.ts';
import { migrateQueue } from '../../queues/backends/postgres.ts';
import { createSecretResolver } from '../../secrets/resolver.ts';
import type { SecretResolver } from '../../secrets/resolver.ts';
import { sealSecret } from '../../secrets/sealing.ts';
import { sshConfigSchema } from '../../ssh/config.ts';

/** A company with an environment on an ephemeral sshd, and a worker that leases it. */
export interface Lab {
  readonly server: EphemeralSshd;
  /** The directory that the environment names, which is one of this machine. */
  readonly remoteWorkspacePath: string;
  readonly environmentId: string;
  readonly environments: EnvironmentService;
  readonly executionDriver: ExecutionDriver;
  probe(signal: AbortSignal): Promise<ProbeReport>;
  /** Writes the server's present key into the environment's config. */
  trustHostKey(): Promise<void>;
  /** Runs `work` under a lease on the environment, in a run of its own. */
  withLease<Result>(
    work: (lease: GrantedLease, signal: AbortSignal) => Promise<Result>,
    signal: AbortSignal,
  ): Promise<Result>;
  /** Creates an empty directory on this machine. */
  makeDirectory(name: string): Promise<string>;
  /** Stops and removes everything. */
  close(): Promise<void>;
}

const WORKER_SETTINGS: Partial<WorkerSettings> = {
  enableEnvironments: true,
  // Frequent, and as many as it takes.
  releaseBackoff: { initialMs: 100, maxMs: 400 },
  releaseAttempts: 1_000,
  shutdownTimeoutMs: 2_000,
};

const TTL_SECONDS = 120;
const LEASE_WAIT_MS = 30_000;

/**
 * Starts everything that the lab needs, on this machine.
 * @throws {EmbeddedPostgresError}, {SshdError} when one of the servers cannot be started
 */
export async function openLab(): Promise<Lab> {
  const closers = new Closers();
  try {
    return await open(closers);
  } catch (error) {
    await closers.close();
    throw error;
  }
}

async function open(closers: Closers): Promise<Lab> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'lessor-lab-')));
  closers.add(() => rm(directory, { recursive: true, force: true }));
  const makeDirectory = async (name: string) => {
    await mkdir(join(directory, name));
    return join(directory, name);
  };
  const remoteWorkspacePath = await makeDirectory('host');
  const server = await openEphemeralSshd({ directory: await makeDirectory('server') });
  closers.add(() => server.close());
  const secretKey = randomBytes(32).toString('base64');
  const secrets = createSecretResolver({ env: {}, secretKey });
  const { db, driver, producer } = await openStores(closers, secrets);

  const environments = environmentService(db);
  const { host, port, username, knownHosts } = server;
  const privateKey = sealSecret(await readFile(server.privateKeyPath, 'utf8'), secretKey);
  const companyId = randomUUID();
  const { id: environmentId } = await environments.create(companyId, {
    name: 'Lab',
    driver: 'ssh',
    config: { host, port, username, knownHosts, privateKey, remoteWorkspacePath },
  });
  const readConfig = async () => (await environments.getById(environmentId))!.config;

  return {
    server,
    remoteWorkspacePath,
    environmentId,
    environments,
    executionDriver: createSshExecutionDriver({ secrets }),
    async probe(signal) {
      const config = sshConfigSchema.parse(await readConfig());
      return driver.probe({ id: environmentId, companyId, config }, { signal });
    },
    async trustHostKey() {
      const config = { ...(await readConfig()), knownHosts: server.knownHosts };
      await environments.update(environmentId, { config });
    },
    withLease: (work, signal) =>
      withLease(
        producer,
        { companyId, runId: randomUUID(), environment: { agent: environmentId }, ttlSeconds: TTL_SECONDS },
        work,
        { signal, leaseWaitMs: LEASE_WAIT_MS },
      ),
    makeDirectory,
    close: () => closers.close(),
  };
}

/** Postgres with the tables and the queues, a worker and a producer. */
async function openStores(closers: Closers, secrets: SecretResolver) {
  const postgres = await startEmbeddedPostgres();
  closers.add(() => postgres.stop());
  const { url } = postgres;
  await migrate(url);
  await migrateQueue(url);
  const db = createDb(url);
  closers.add(() => db.close());
  const driver = createSshDriver({ secrets });
  const logger = pino({ level: 'silent' });
  const worker = createWorker({ databaseUrl: url, queueUrl: url, logger, drivers: [driver], ...WORKER_SETTINGS });
  closers.add(() => worker.close());
  await worker.start();
  const producer = createHeartbeatProducer({ queueUrl: url });
  closers.add(() => producer.close());
  return { db, driver, producer };
}
