import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { EmbeddedPostgresError } from './errors.ts';

/** A user of this machine that the server can run as. */
export interface ServerAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** In order of preference; `_postgres` is what macOS calls it. */
const UNPRIVILEGED_NAMES = ['postgres', '_postgres', 'nobody'];

/**
 * Postgres does not run as root, so root runs the server as an unprivileged user that already exists; any other user runs
 * it as itself, which is `undefined`.
 */
export async function chooseServerAccount(): Promise<ServerAccount | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  return pickUnprivilegedAccount(await readFile('/etc/passwd', 'utf8'));
}

export function pickUnprivilegedAccount(passwd: string): ServerAccount {
  const accounts = passwd.split('\n').map((line) => line.split(':'));
  for (const name of UNPRIVILEGED_NAMES) {
    const [, , uid, gid] = accounts.find(([accountName]) => accountName === name) ?? [];
    if (Number(uid) && Number(gid)) return { name, uid: Number(uid), gid: Number(gid) };
  }
  throw new EmbeddedPostgresError(
    'no_unprivileged_user',
    `PostgreSQL does not run as root, and /etc/passwd has none of the users ${UNPRIVILEGED_NAMES.join(', ')} to run it ` +
      'as. Start as a non-root user, or set DATABASE_URL to a server of your own.',
  );
}

/**
 * The first directory on the way to `path` (or `path` itself) that lacks execute permission for the account;
 * `undefined` when it gets there. Decided by permission bits alone: a child gets no supplementary groups, and
 * access control lists are ignored. `path` must be real, without symbolic links.
 */
export async function findObstacle(path: string, account: ServerAccount): Promise<string | undefined> {
  for (const step of stepsTo(path)) {
    if (!(await mayExecute(step, account))) return step;
  }
  return undefined;
}

function stepsTo(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [...stepsTo(parent), path];
}

async function mayExecute(path: string, account: ServerAccount): Promise<boolean> {
  const { uid, gid, mode } = await stat(path);
  if (uid === account.uid) return (mode & 0o100) !== 0;
  if (gid === account.gid) return (mode & 0o010) !== 0;
  return (mode & 0o001) !== 0;
}
