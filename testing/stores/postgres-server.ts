import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import getPort from 'get-port';
import { chooseTemporaryRoot } from '../../src/embedded/programs.ts';
import { chooseServerAccount } from '../../src/embedded/server-account.ts';
import { EmbeddedPostgresError, startEmbeddedPostgres } from '../../src/embedded/index.ts';
import type { EmbeddedPostgres, EmbeddedPostgresOptions } from '../../src/embedded/index.ts';

/** How a Postgres is stopped, in its own terms: `fast` shuts down in order, `immediate` is a crash. */
export type PostgresStopMode = 'fast' | 'immediate';

/** A Postgres that can be stopped and started again under the same URL, with its data. */
export interface RestartablePostgres {
  readonly url: string;
  readonly port: number;
  /** Ends the server and resolves when it is gone. */
  stop(mode: PostgresStopMode): Promise<void>;
  /** Starts the server again and resolves when it accepts connections; after a crash, when it has recovered. */
  start(): Promise<void>;
  restart(mode: PostgresStopMode): Promise<void>;
  /** Ends the server, if it runs, and removes its data. */
  close(): Promise<void>;
}

/** Starts a Postgres of one's own, on a free port of 127.0.0.1. Commits are durable, as by default. */
export async function startRestartablePostgres(
  options: Pick<EmbeddedPostgresOptions, 'settings'> = {},
): Promise<RestartablePostgres> {
  const port = await getPort({ host: '127.0.0.1' });
  const directory = await makeDirectory();
  let running: EmbeddedPostgres | undefined;
  const start = async () => {
    if (running) throw new Error(`the Postgres on port ${port} already runs: stop it first`);
    running = await startEmbeddedPostgres({ ...options, dataDirectory: directory, port });
    return running.url;
  };
  const stop = async (mode: PostgresStopMode) => {
    const postgres = running;
    running = undefined;
    if (mode === 'fast') await postgres?.stop();
    else if (postgres) await crash(postgres, directory);
  };
  const close = async () => {
    try {
      await stop('fast');
    } finally {
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    }
  };
  try {
    const url = await start();
    return {
      url,
      port,
      stop,
      async start() {
        await start();
      },
      async restart(mode) {
        await stop(mode);
        await start();
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The account of the server, which differs from this process's under root, must be able to enter. */
async function makeDirectory(): Promise<string> {
  const root = await chooseTemporaryRoot(await chooseServerAccount());
  const directory = await mkdtemp(join(root, 'lessor-postgres-kept-'));
  await chmod(directory, 0o755);
  return directory;
}

/** Does what `pg_ctl stop --mode immediate` does. The embedded server then reports that it ended on its own, as expected. */
async function crash(postgres: EmbeddedPostgres, directory: string): Promise<void> {
  const [pid] = (await readFile(join(directory, 'cluster/data/postmaster.pid'), 'utf8')).split('\n');
  process.kill(Number(pid), 'SIGQUIT');
  try {
    await postgres.stop();
  } catch (error) {
    if (!(error instanceof EmbeddedPostgresError && error.code === 'server_failed')) throw error;
  }
}
