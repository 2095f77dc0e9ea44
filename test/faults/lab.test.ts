import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { filesLeftIn } from '../commands/files-left.ts';
import { spawnLessor } from '../commands/lessor.ts';
import { describeOnSshd } from '../support/ssh-host.ts';
import { runningProcesses } from '../../testing/running-processes.ts';
import { until } from '../../testing/until.ts';

/** A directory for the lab's temporary files. */
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

/** Loaded before the lab: it cannot make symlinks, so its sample workspace cannot be written. */
const WITHOUT_SYMLINKS = `
import files from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
files.symlink = async () => { throw new Error('no symlinks here'); };
syncBuiltinESMExports();`;

describeOnSshd('the lab', () => {
  test('ends on Ctrl-C, and leaves neither a file nor a process', async () => {
    const directory = await scratchDirectory();
    const running = spawnLessor(['environments', 'lab'], { env: { TMPDIR: directory }, detached: true });
    await until(() => running.stdout().includes('sshd at '), { timeoutMs: 30_000, what: 'the lab being open' });
    // As a terminal does on Ctrl-C: the whole process group gets the signal.
    process.kill(-running.child.pid!, 'SIGINT');
    const { exit, stdout } = await running.ended();
    expect(exit).toBe(130);
    expect(stdout).toMatch(/│ release, server back +│ failed │ not run: interrupted +│/);
    expect(await filesLeftIn(directory)).toEqual([]);
    await until(() => processesIn(directory).length === 0, { what: 'the end of everything that was started' });
  });

  test('shows a check that fails with its reason, hides no other, and exits with 1', async () => {
    const directory = await scratchDirectory();
    const env = {
      TMPDIR: directory,
      NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(WITHOUT_SYMLINKS)}`,
    };
    const { exit, stdout } = await spawnLessor(['environments', 'lab', '--json'], { env }).ended();
    const { ok, rows } = JSON.parse(stdout) as { ok: boolean; rows: { name: string; ok: boolean; seen: string }[] };
    expect({ exit, ok }).toEqual({ exit: 1, ok: false });
    expect(rows.filter((row) => !row.ok)).toMatchObject([{ name: 'upload', seen: 'no symlinks here' }]);
    expect(rows).toHaveLength(8);
    expect(await filesLeftIn(directory)).toEqual([]);
  });
});
