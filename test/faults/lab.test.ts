import { chmod, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { filesLeftIn } from '../commands/files-left.ts';
import { spawnLessor } from '../commands/lessor.ts';
import { runningProcesses } from '../../testing/running-processes.ts';
import { until } from '../../testing/until.ts';

/** A directory that the lab takes for that of temporary files. */
async function scratchDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-lab-test-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  // As root, Postgres runs as another user, who has to get there.
  await chmod(directory, 0o755);
  return directory;
}

const processesIn = (directory: string) =>
  runningProcesses()
    .map(({ pid, command }) => `${pid} ${command}`)
    .filter((line) => line.includes(directory));

test('the lab ends on Ctrl-C, and leaves neither a file nor a process', async () => {
  const directory = await scratchDirectory();
  const running = spawnLessor(['environments', 'lab'], { env: { TMPDIR: directory }, detached: true });
  await until(() => running.stdout().includes('SSH server: '), { timeoutMs: 30_000, what: 'the lab being open' });
  // As a terminal does on Ctrl-C: the whole process group is told.
  process.kill(-running.child.pid!, 'SIGINT');
  const { exit, stdout } = await running.ended();
  expect(exit).toBe(130);
  expect(stdout).toMatch(/│ release, server back +│ failed │ not tried: interrupted +│/);
  expect(await filesLeftIn(directory)).toEqual([]);
  await until(() => processesIn(directory).length === 0, { what: 'the end of everything that was started' });
});

test('a row of the lab that fails is told with its reason, hides no other, and makes the exit code 1', async () => {
  const directory = await scratchDirectory();
  const programs = await programsWithout('sleep');
  const args = ['environments', 'lab', '--server', 'builtin', '--json'];
  const { exit, stdout } = await spawnLessor(args, { env: { TMPDIR: directory, PATH: programs } }).ended();
  const { ok, rows } = JSON.parse(stdout) as { ok: boolean; rows: { name: string; ok: boolean; seen: string }[] };
  expect({ exit, ok }).toEqual({ exit: 1, ok: false });
  expect(rows.filter((row) => !row.ok)).toMatchObject([
    { name: 'release', seen: expect.stringContaining('no process could be left running') as unknown },
  ]);
  expect(rows).toHaveLength(8);
  expect(await filesLeftIn(directory)).toEqual([]);
});

/** A directory of all programs that a shell is likely to need, but for one. */
async function programsWithout(missing: string): Promise<string> {
  const directory = await scratchDirectory();
  for (const from of ['/usr/bin', '/bin']) {
    for (const name of await readdir(from)) {
      if (name !== missing) await symlink(join(from, name), join(directory, name)).catch(ignoreExisting);
    }
  }
  return directory;
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}
