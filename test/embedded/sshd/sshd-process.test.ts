import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkSshd, findSshd } from '../../../src/embedded/sshd/sshd-process.ts';
import { describeOnSshd } from '../../support/ssh-host.ts';
import { makeDirectory } from './fixture.ts';

const sshd = await findSshd(process.env['PATH'] ?? '');

describeOnSshd('on an SSH host', () => {
  test('a configuration that sshd does not accept fails with what sshd printed', async () => {
    const directory = await makeDirectory();
    onTestFinished(() => rm(directory, { recursive: true }));
    const path = join(directory, 'sshd_config');
    await writeFile(path, 'NoSuchOption yes\n');
    const rejected = checkSshd(sshd!, path);
    await expect(rejected).rejects.toMatchObject({ name: 'SshdError', code: 'sshd_failed' });
    await expect(rejected).rejects.toThrow(/Bad configuration option: NoSuchOption/);
  });
});

test('sshd is found on the PATH by its absolute path, and only when it is executable', async () => {
  const directory = await makeDirectory();
  onTestFinished(() => rm(directory, { recursive: true }));
  await writeFile(join(directory, 'sshd'), '', { mode: 0o644 });
  expect(await findSshd(`.:${directory}`)).toBe(sshd);
  await rm(join(directory, 'sshd'));
  await writeFile(join(directory, 'sshd'), '', { mode: 0o755 });
  expect(await findSshd(`.:${directory}`)).toBe(join(directory, 'sshd'));
});
