import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { END_PROCESSES, LEASES_DIRECTORY, RECORD_PROCESS } from '../../src/ssh/lease-directory.ts';
import { quote, readShellPrograms } from '../../src/ssh/script.ts';
import { programsOnPath } from '../support/requirements.ts';
import { isInstalled, pathOf } from './programs.ts';
import { startSleeper } from './sleepers.ts';

const shells = [['sh'], ['dash'], ['bash', '--posix'], ['busybox', 'ash'], ['mksh']].filter(([program]) =>
  isInstalled(program!),
);
const ps = programsOnPath('ps');
const NO_PROC = '/nonexistent';
const sources = [...(existsSync('/proc/self/environ') ? ['/proc'] : []), ...(ps.isMet ? [NO_PROC] : [])];

/** An empty lease directory whose path needs quoting in shells. */
async function newLeaseDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-lease-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const leaseDirectory = join(directory, "it's a * $workspace ünïcode", LEASES_DIRECTORY, randomUUID());
  await mkdir(join(leaseDirectory, 'commands'), { recursive: true });
  return leaseDirectory;
}

interface EndOptions {
  shell?: string[];
  proc?: string;
  env?: Record<string, string>;
}

/** Ends the processes of a lease directory; resolves to the ids of those left, or to null when none is. */
async function endProcesses(leaseDirectory: string, { shell = ['sh'], proc = sources[0]!, env = {} }: EndOptions = {}) {
  const programs = await readShellPrograms(RECORD_PROCESS, END_PROCESSES);
  const script = `${programs}\nlessor_end_processes ${quote(leaseDirectory)} 1 ${quote(proc)}\n`;
  const [program, ...args] = shell;
  return new Promise<string | null>((resolve, reject) => {
    const child = execFile(
      program!,
      [...args, '-s'],
      { env: { PATH: process.env['PATH'], ...env } },
      (error, stdout, stderr) => {
        if (error === null && stdout === '' && stderr === '') resolve(null);
        else if (error?.code === 1 && stderr === '') resolve(stdout);
        else reject(new Error(`the script failed: ${error?.message} ${stdout} ${stderr}`));
      },
    );
    child.stdin!.end(script);
  });
}

/** A stopped process of the lease directory. */
async function startStopped(leaseDirectory: string) {
  const sleeper = await startSleeper({ leaseDirectory });
  process.kill(sleeper.pid!, 'SIGSTOP');
  return sleeper;
}

const everywhere = shells
  .flatMap((shell) => sources.map((proc) => ({ shell, proc, name: shell.join(' ') })))
  // BusyBox has a ps of its own that shows no environment, and runs only where there is a /proc.
  .filter(({ shell, proc }) => proc !== NO_PROC || shell[0] !== 'busybox');

describe.each(everywhere)('in $name, with processes from $proc,', ({ shell, proc }) => {
  test('every process of a lease directory is ended, whatever its session, and no other', async () => {
    const leaseDirectory = await newLeaseDirectory();
    const ofLease = await Promise.all([
      startSleeper({ leaseDirectory }),
      startSleeper({ leaseDirectory, script: (command) => `${command} & wait` }),
      startSleeper({ leaseDirectory, script: (command) => `cd /; (${command} </dev/null >/dev/null 2>&1 &)` }),
      startSleeper({ leaseDirectory, script: (command) => `trap '' TERM HUP INT; exec ${command}` }),
      startStopped(leaseDirectory),
      startSleeper({ leaseDirectory, script: (command) => `env -i ${command} & wait` }),
    ]);
    const others = await Promise.all([
      startSleeper(),
      startSleeper({ leaseDirectory: `${leaseDirectory}x` }),
      startSleeper({ leaseDirectory: join(leaseDirectory, 'x') }),
      startSleeper({ leaseDirectory: leaseDirectory.slice(0, -1) }),
      startSleeper({ leaseDirectory: join(dirname(leaseDirectory), randomUUID()) }),
      startSleeper({ cwd: leaseDirectory }),
    ]);
    expect(await endProcesses(leaseDirectory, { shell, proc })).toBeNull();
    expect(ofLease.filter(({ isAlive }) => isAlive)).toEqual([]);
    expect(others.every(({ isAlive }) => isAlive)).toBe(true);
    expect(await endProcesses(leaseDirectory, { shell, proc })).toBeNull();
  });
});

describe.runIf(sources.includes('/proc'))('with /proc', () => {
  test('a server that overwrote its environment with its title is recognized by its working directory', async () => {
    const leaseDirectory = await newLeaseDirectory();
    const overwritten = await startSleeper({ cwd: leaseDirectory, script: (command) => `exec env -i ${command}` });
    const below = await startSleeper({
      cwd: join(leaseDirectory, 'commands'),
      script: (command) => `exec env -i ${command}`,
    });
    const elsewhere = await startSleeper({ cwd: '/', script: (command) => `exec env -i ${command}` });
    expect(await endProcesses(leaseDirectory)).toBeNull();
    expect([overwritten.isAlive, below.isAlive, elsewhere.isAlive]).toEqual([false, false, true]);
  });

  test('a process that names the lease directory only in its arguments is not ended', async () => {
    const leaseDirectory = await newLeaseDirectory();
    const other = await startSleeper({
      script: (command) => `${command} & wait # LESSOR_LEASE_DIRECTORY=${leaseDirectory}`,
    });
    expect(await endProcesses(leaseDirectory)).toBeNull();
    expect(other.isAlive).toBe(true);
  });

  test('the shell ends neither itself nor its ancestors', async () => {
    const leaseDirectory = await newLeaseDirectory();
    const sleeper = await startSleeper({ leaseDirectory });
    expect(await endProcesses(leaseDirectory, { env: { LESSOR_LEASE_DIRECTORY: leaseDirectory } })).toBeNull();
    expect(sleeper.isAlive).toBe(false);
  });

  test('the processes of a removed lease directory are ended', async () => {
    const leaseDirectory = await newLeaseDirectory();
    const sleeper = await startSleeper({ leaseDirectory, cwd: leaseDirectory });
    await rm(leaseDirectory, { recursive: true });
    expect(await endProcesses(leaseDirectory)).toBeNull();
    expect(sleeper.isAlive).toBe(false);
  });
});

describe.runIf(ps.isMet)(`without /proc${ps.note}`, () => {
  test('a recorded command is ended with its process group', async () => {
    const leaseDirectory = await newLeaseDirectory();
    const path = join(leaseDirectory, 'commands', '1.pid');
    const record = `${await readShellPrograms(RECORD_PROCESS)}\nlessor_record_process ${quote(path)} ${quote(NO_PROC)}`;
    const sleeper = await startSleeper({ script: (command) => `${record}; exec env -i ${command}` });
    expect(Number((await readFile(path, 'utf8')).split('\n')[0])).toBe(sleeper.pid);
    expect(await endProcesses(leaseDirectory, { proc: NO_PROC })).toBeNull();
    expect(sleeper.isAlive).toBe(false);
  });

  test('a missing ps is reported', async () => {
    const leaseDirectory = await newLeaseDirectory();
    const directory = await mkdtemp(join(tmpdir(), 'lessor-path-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    for (const name of ['sh', 'grep', 'tr', 'sed', 'awk', 'date', 'sleep', 'basename']) {
      await symlink(pathOf(name)!, join(directory, name));
    }
    expect(await endProcesses(leaseDirectory, { proc: NO_PROC, env: { PATH: directory } })).toContain(
      'neither /proc nor a ps',
    );
  });

  test('a process that reuses the id of a recorded command is not ended', async () => {
    const leaseDirectory = await newLeaseDirectory();
    const other = await startSleeper();
    await writeFile(join(leaseDirectory, 'commands', '1.pid'), `${other.pid}\nMon Jan 1 00:00:00 2024\n`);
    await writeFile(join(leaseDirectory, 'commands', '2.pid'), `${other.pid}\n`);
    await writeFile(join(leaseDirectory, 'commands', '3.pid'), 'not a number\n');
    expect(await endProcesses(leaseDirectory, { proc: NO_PROC })).toBeNull();
    expect(other.isAlive).toBe(true);
  });
});
