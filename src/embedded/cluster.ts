import { randomBytes } from 'node:crypto';
import { access, chown, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../lib/errors.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { runProgram } from './program.ts';
import type { Programs } from './programs.ts';
import type { ServerAccount } from './server-account.ts';
import type { ServerDirectory } from './server-directory.ts';

/** The name of the server's superuser, and of its database. */
export const LESSOR = 'lessor';

/** The data of a server and the password to it, side by side in a server directory. */
export interface Cluster {
  readonly data: string;
  readonly password: string;
}

export interface ClusterContext {
  readonly directory: ServerDirectory;
  readonly programs: Programs;
  readonly account: ServerAccount | undefined;
  readonly signal: AbortSignal;
}

const STAGING_PREFIX = 'initializing-';

/** Opens the cluster in the directory, after making it if there is none. */
export async function openCluster(context: ClusterContext): Promise<Cluster> {
  const root = join(context.directory.path, 'cluster');
  if (!(await isCluster(root))) await createCluster(root, context);
  return { data: join(root, 'data'), password: await readPassword(join(root, 'password')) };
}

async function isCluster(root: string): Promise<boolean> {
  try {
    await access(join(root, 'data', 'PG_VERSION'));
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    if (!hasCode(error, 'EACCES')) throw error;
    throw new EmbeddedPostgresError(
      'directory_unreachable',
      `${root} belongs to another user, as after an earlier start as root. Start as before, or choose another data directory.`,
      { cause: error },
    );
  }
}

/** Built aside and renamed: PG_VERSION appears early in initdb, and one that was killed must not pass for a cluster. */
async function createCluster(root: string, context: ClusterContext): Promise<void> {
  const { directory, account } = context;
  await removeAbandonedStaging(directory.path);
  const staging = join(directory.path, `${STAGING_PREFIX}${process.pid}`);
  try {
    await mkdir(staging, { mode: 0o700 });
    await writeFile(join(staging, 'password'), randomBytes(24).toString('base64url'), { mode: 0o600, flag: 'wx' });
    if (account) {
      await chown(staging, account.uid, account.gid);
      await chown(join(staging, 'password'), account.uid, account.gid);
    }
    await initializeData(staging, context);
    await createDatabase(staging, context);
    await rename(staging, root);
  } catch (error) {
    await rm(staging, { recursive: true, force: true });
    const lostTheRace = hasCode(error, 'ENOTEMPTY', 'EEXIST', 'EPERM') && (await isCluster(root));
    if (!lostTheRace) throw error;
  }
}

async function removeAbandonedStaging(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.startsWith(STAGING_PREFIX) || isAnotherAlive(Number(name.slice(STAGING_PREFIX.length)))) continue;
    await rm(join(directory, name), { recursive: true, force: true });
  }
}

/** Our own number on a directory means that it was used before, which is common in containers. */
function isAnotherAlive(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return !hasCode(error, 'ESRCH');
  }
}

async function initializeData(staging: string, context: ClusterContext): Promise<void> {
  await runInitially(context.programs.initdb, staging, context, '', [
    `--pgdata=${join(staging, 'data')}`,
    `--username=${LESSOR}`,
    `--pwfile=${join(staging, 'password')}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    // The same order and case rules on every machine.
    '--no-locale',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    ...(context.directory.temporary ? ['--no-sync'] : []),
  ]);
}

/** In single-user mode: no server to wait for, no client needed. */
async function createDatabase(staging: string, context: ClusterContext): Promise<void> {
  await runInitially(context.programs.postgres, staging, context, `CREATE DATABASE ${LESSOR};\n`, [
    '--single',
    '-D',
    join(staging, 'data'),
    '-c',
    'exit_on_error=true',
    ...(context.directory.temporary ? ['-c', 'fsync=off'] : []),
    'postgres',
  ]);
}

async function runInitially(
  path: string,
  workingDirectory: string,
  { account, signal }: ClusterContext,
  input: string,
  args: readonly string[],
): Promise<void> {
  const { end, output } = await runProgram({ path, args, account, workingDirectory }, input, signal);
  if (end === 0) return;
  throw new EmbeddedPostgresError('initdb_failed', `${path} ended with ${end}. Its output ended:\n${output.text}`);
}

async function readPassword(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    throw new EmbeddedPostgresError(
      'data_directory_damaged',
      `The password of the kept database cannot be read from ${path}. Restore it, or choose another data directory.`,
      { cause: error },
    );
  }
}
