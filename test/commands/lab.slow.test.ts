import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { describeOnSshd } from '../support/ssh-host.ts';
import { filesLeftIn } from './files-left.ts';
import { lessor } from './lessor.ts';

const ROWS = [
  'connection',
  'host key rejected',
  'upload',
  'hostile arguments',
  'restore with a conflict',
  'release',
  'release, server down',
  'release, server back',
];

describeOnSshd('on an SSH host', () => {
  test('`lessor environments lab` passes every row, and leaves no file', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'lessor-lab-test-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    // As root, Postgres runs as another user, who has to get there.
    await chmod(directory, 0o755);
    vi.stubEnv('TMPDIR', directory);
    const { exit, stdout, stderr } = await lessor(['environments', 'lab', '--json']);

    expect(stderr).toBe('');
    const report = JSON.parse(stdout) as { rows: { name: string; ok: boolean; seen: string }[] };
    expect(report).toMatchObject({ ok: true });
    expect(report.rows.map(({ name, ok, seen }) => (ok ? name : `${name}: ${seen}`))).toEqual(ROWS);
    expect(exit).toBe(0);
    expect(await filesLeftIn(directory)).toEqual([]);
  });
});
