import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { endProcessesFunction, recordProcess } from '../../src/ssh/end-processes.ts';
import { LEASES_DIRECTORY } from '../../src/ssh/lease-directory.ts';
import { quote } from '../../src/ssh/shell.ts';
import { isInstalled, pathOf } from './programs.ts';
import { startSleeper } from './sleepers.ts';

const shells = [['dash'], ['bash', '--posix'], ['busybox', 'ash'], ['mksh']].filter(([program]) =>
  isInstalled(program!),
);
const NO_PROC = '/nonexistent';
const lookingAt = [...(existsSync('/proc/self/environ') ? ['/proc'] : []), ...(isInstalled('ps') ? [NO_PROC] : [])];

/** An empty place, whose name gives shells something to trip over. */
async function newPlace(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-place-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const place = join(directory, "it's a * $workspace ünïcode", LEASES_DIRECTORY, randomUUID());
  await mkdir(join(place, 'commands'), { recursive: true });
  return place;
}

interface EndOptions {
  shell?: string[];
  proc?: string;
  env?: Record<string, string>;
}

/** Ends the processes of a place; resolves to the ids of those left, or to null when nobody is. */
function endProcesses(place: string, { shell = ['sh'], proc = lookingAt[0]!, env = {} }: EndOptions = {}) {
  const script = `${endProcessesFunction({ graceSeconds: 1, proc })}\nlessor_end_processes ${quote(place)}\n`;
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

/** A process of the place that does nothing until it is told to go on. */
async function startHalted(place: string) {
  const sleeper = await startSleeper({ place });
  process.kill(sleeper.pid!, 'SIGSTOP');
  return sleeper;
}

const everywhere = shells
  .flatMap((shell) => lookingAt.map((proc) => ({ shell, proc, name: shell.join(' ') })))
  // BusyBox has a ps of its own that shows no environment, and runs only where there is a /proc.
  .filter(({ shell, proc }) => proc !== NO_PROC || shell[0] !== 'busybox');

describe.each(everywhere)('in $name, looking at $proc,', ({ shell, proc }) => {
  test('all that runs in a place is ended, wherever it hid, and nobody else', async () => {
    const place = await newPlace();
    const ofPlace = await Promise.all([
      startSleeper({ place }),
      startSleeper({ place, script: (command) => `${command} & wait` }),
      startSleeper({ place, script: (command) => `cd /; (${command} </dev/null >/dev/null 2>&1 &)` }),
      startSleeper({ place, script: (command) => `trap '' TERM HUP INT; exec ${command}` }),
      startHalted(place),
      startSleeper({ place, script: (command) => `env -i ${command} & wait` }),
    ]);
    const others = await Promise.all([
      startSleeper(),
      startSleeper({ place: `${place}x` }),
      startSleeper({ place: join(place, 'x') }),
      startSleeper({ place: place.slice(0, -1) }),
      startSleeper({ place: join(dirname(place), randomUUID()) }),
      startSleeper({ cwd: place }),
    ]);
    expect(await endProcesses(place, { shell, proc })).toBeNull();
    expect(ofPlace.filter(({ isAlive }) => isAlive)).toEqual([]);
    expect(others.every(({ isAlive }) => isAlive)).toBe(true);
    expect(await endProcesses(place, { shell, proc })).toBeNull();
  });
});

describe.runIf(lookingAt.includes('/proc'))('looking at /proc', () => {
  test('a server that wrote its title over its environment is known by its directory', async () => {
    const place = await newPlace();
    const overwritten = await startSleeper({ cwd: place, script: (command) => `exec env -i ${command}` });
    const below = await startSleeper({ cwd: join(place, 'commands'), script: (command) => `exec env -i ${command}` });
    const elsewhere = await startSleeper({ cwd: '/', script: (command) => `exec env -i ${command}` });
    expect(await endProcesses(place)).toBeNull();
    expect([overwritten.isAlive, below.isAlive, elsewhere.isAlive]).toEqual([false, false, true]);
  });

  test('what names the place only in its arguments is left alone', async () => {
    const place = await newPlace();
    const other = await startSleeper({ script: (command) => `${command} & wait # LESSOR_LEASE_DIRECTORY=${place}` });
    expect(await endProcesses(place)).toBeNull();
    expect(other.isAlive).toBe(true);
  });

  test('the shell does not end itself, nor those that it descends from', async () => {
    const place = await newPlace();
    const sleeper = await startSleeper({ place });
    expect(await endProcesses(place, { env: { LESSOR_LEASE_DIRECTORY: place } })).toBeNull();
    expect(sleeper.isAlive).toBe(false);
  });

  test('a place that is not there any more is no hindrance', async () => {
    const place = await newPlace();
    const sleeper = await startSleeper({ place, cwd: place });
    await rm(place, { recursive: true });
    expect(await endProcesses(place)).toBeNull();
    expect(sleeper.isAlive).toBe(false);
  });
});

describe.runIf(isInstalled('ps'))('where there is no /proc', () => {
  test('a command that recorded itself is ended with its group', async () => {
    const place = await newPlace();
    const path = join(place, 'commands', '1.pid');
    const record = recordProcess(path, { proc: NO_PROC });
    const sleeper = await startSleeper({ script: (command) => `${record}; exec env -i ${command}` });
    expect(Number((await readFile(path, 'utf8')).split('\n')[0])).toBe(sleeper.pid);
    expect(await endProcesses(place, { proc: NO_PROC })).toBeNull();
    expect(sleeper.isAlive).toBe(false);
  });

  test('the failure says so when ps is missing as well', async () => {
    const place = await newPlace();
    const directory = await mkdtemp(join(tmpdir(), 'lessor-path-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    for (const name of ['sh', 'grep', 'tr', 'sed', 'awk', 'date', 'sleep', 'basename']) {
      await symlink(pathOf(name)!, join(directory, name));
    }
    expect(await endProcesses(place, { proc: NO_PROC, env: { PATH: directory } })).toContain('neither /proc nor a ps');
  });

  test('a process that was given the id of one that recorded itself is left alone', async () => {
    const place = await newPlace();
    const other = await startSleeper();
    await writeFile(join(place, 'commands', '1.pid'), `${other.pid}\nMon Jan 1 00:00:00 2024\n`);
    await writeFile(join(place, 'commands', '2.pid'), `${other.pid}\n`);
    await writeFile(join(place, 'commands', '3.pid'), 'not a number\n');
    expect(await endProcesses(place, { proc: NO_PROC })).toBeNull();
    expect(other.isAlive).toBe(true);
  });
});
