import { chmod, chown, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { EmbeddedPostgresError } from './errors.ts';
import { chooseTemporaryRoot } from './programs.ts';
import { findObstacle, type ServerAccount } from './server-account.ts';

/** The directory that holds everything a server has: temporary, or kept for the next start. */
export interface ServerDirectory {
  readonly path: string;
  readonly temporary: boolean;
  release(): Promise<void>;
}

export function openServerDirectory(
  dataDirectory: string | null,
  account: ServerAccount | undefined,
): Promise<ServerDirectory> {
  return dataDirectory === null ? openTemporary(account) : openKept(resolve(dataDirectory), account);
}

async function openTemporary(account: ServerAccount | undefined): Promise<ServerDirectory> {
  const path = await mkdtemp(join(await chooseTemporaryRoot(account), 'lessor-postgres-'));
  const release = () => rm(path, { recursive: true, maxRetries: 5, retryDelay: 100 });
  try {
    if (account) await chown(path, account.uid, account.gid);
  } catch (error) {
    await release();
    throw error;
  }
  return { path, temporary: true, release };
}

async function openKept(dataDirectory: string, account: ServerAccount | undefined): Promise<ServerDirectory> {
  const created = await mkdir(dataDirectory, { recursive: true });
  const path = await realpath(dataDirectory);
  if (account) {
    // A strict umask of root must not close the directory that was made for the account; the data inside is 0700.
    if (created) await chmod(path, 0o755);
    await requireReachable(path, account);
  }
  return { path, temporary: false, release: () => Promise.resolve() };
}

async function requireReachable(path: string, account: ServerAccount): Promise<void> {
  const obstacle = await findObstacle(path, account);
  if (obstacle === undefined) return;
  throw new EmbeddedPostgresError(
    'directory_unreachable',
    `The data directory ${path} cannot be used: root runs PostgreSQL as the user ${account.name}, who may not enter ` +
      `${obstacle}. Choose another data directory, let others enter that one (chmod o+x), or start as a non-root user.`,
  );
}
