import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkSshd, findSshd } from '../../../src/embedded/sshd/sshd-process.ts';
import { describeOnSshd } from '../../support/ssh-host.ts';
import { makeDirectory } from './fixture.ts';

const sshd = await findSshd(process.env['PATH'] ?? '');

describeOnSshd('an ephemeral sshd', () => {
  test('fails with what sshd printed when its configuration is not accepted', async () => {
    const directory = await makeDirectory();
    const path = join(directory, 'sshd_config');
    await writeFile(path, 'NoSuchOption yes\n');
    const rejected = checkSshd(sshd!, path);
    await expect(rejected).rejects.toMatchObject({ name: 'SshdError', code: 'sshd_failed' });
    await expect(rejected).rejects.toThrow(/Bad configuration option: NoSuchOption/);
  });
});

test('sshd is found on the PATH by its absolute path, and only when it is executable', async () => {
  const directory = await makeDirectory();
  await writeFile(join(directory, 'sshd'), '', { mode: 0o644 });
  expect(await findSshd(`.:${directory}`)).toBe(sshd);
  await rm(join(directory, 'sshd'));
  await writeFile(join(directory, 'sshd'), '', { mode: 0o755 });
  expect(await findSshd(`.:${directory}`)).toBe(join(directory, 'sshd'));
});
