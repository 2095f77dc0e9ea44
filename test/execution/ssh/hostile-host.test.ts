import { once } from 'node:events';
import { readFile, readdir } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import ssh2 from 'ssh2';
import type { Attributes, SFTPWrapper } from 'ssh2';
import { expect, onTestFinished, test } from 'vitest';
import { newKeyPair } from '../../ssh/keys.ts';
import { RemoteRestoreSource } from '../../../src/execution/ssh/remote-tree.ts';
import { RemoteTree } from '../../../src/execution/ssh/remote-tree.ts';
import { SftpSession } from '../../../src/execution/ssh/sftp-session.ts';
import { LocalWorkspace } from '../../../src/execution/workspace/local-workspace.ts';
import { restoreWorkspace } from '../../../src/execution/workspace/restore-workspace.ts';
import { createSecretResolver } from '../../../src/secrets/resolver.ts';
import { sshConfigSchema } from '../../../src/ssh/config.ts';
import { SshConnection } from '../../../src/ssh/connection.ts';
import { noAbort } from '../../support/ssh-host.ts';
import { makeDirectory } from '../directories.ts';

const { STATUS_CODE } = ssh2.utils.sftp;
const [FILE, DIRECTORY, SYMLINK, PIPE] = [0o100644, 0o040755, 0o120777, 0o010644];

/** What a host says that lies. Left out, it says nothing at all. */
interface Lies {
  /** What each directory holds: names with their modes, told again and again when there is no end to it. */
  listings?: Record<string, [name: string, mode: number][]>;
  isEndless?: boolean;
  target?: string;
  content?: string;
  size?: number;
}

test('names that lead out of the workspace or that no file can have are skipped, and nothing is written outside', async () => {
  const names = ['..', '.', '', '../escaped', '../../escaped', '/escaped', 'a/../../escaped', 'a/b', 'nul\0name'];
  const { restored, workspace } = await restoreFrom({
    listings: {
      '': [...names.map((name): [string, number] => [name, FILE]), ['good', FILE], ['dir', DIRECTORY]],
      dir: [['../../escaped', FILE]],
    },
    content: 'content',
  });
  expect(restored.created).toEqual(['dir', 'good']);
  expect(new Set(restored.skipped.map(({ reason }) => reason))).toEqual(
    new Set(['the host lists it under a name that no file can have']),
  );
  // ssh2 itself passes over the directory and the one around it.
  expect(restored.skipped.length).toBe(names.length - 2 + 1);
  expect(await readdir(workspace)).toEqual(['dir', 'good']);
  expect((await readdir(dirname(workspace))).filter((name) => name.includes('escaped'))).toEqual([]);
});

test('a symlink that is listed as a directory as well is not written through', async () => {
  const outside = await makeDirectory();
  const { restored, workspace } = await restoreFrom({
    listings: {
      '': [
        ['dir', SYMLINK],
        ['dir', DIRECTORY],
      ],
      dir: [['a', FILE]],
    },
    target: outside,
    content: 'content',
  });
  expect(restored.skipped).toContainEqual({ path: 'dir', reason: 'the host lists it twice' });
  expect(await readdir(outside)).toEqual([]);
  expect(await readdir(workspace)).toContain('dir');
});

test('invalid symlink targets and special files are skipped', async () => {
  const { restored } = await restoreFrom({
    listings: {
      '': [
        ['link', SYMLINK],
        ['pipe', PIPE],
      ],
    },
    target: 'nul\0target',
  });
  expect(restored.skipped).toEqual([
    { path: 'link', reason: 'its target cannot be one here' },
    { path: 'pipe', reason: 'it is neither a file, a directory nor a symlink' },
  ]);
});

test('a file shorter than its reported size is downloaded up to its end', async () => {
  const { restored, workspace } = await restoreFrom({
    listings: { '': [['a', FILE]] },
    content: 'short',
    size: 10_000_000_000_000,
  });
  expect(restored.created).toEqual(['a']);
  expect(await readFile(join(workspace, 'a'), 'utf8')).toBe('short');
});

test('an endless listing is aborted', async () => {
  const names = Array.from({ length: 200 }, (_, index): [string, number] => [`file ${index}`, FILE]);
  const { connection, config } = await connectTo({ listings: { '': names }, isEndless: true });
  const tree = new RemoteTree(await SftpSession.open(connection, config, { signal: noAbort() }), '/work', 1_000);
  await expect(tree.list('')).rejects.toMatchObject({
    code: 'workspace_unusable',
    message: expect.stringContaining('more than 1000 files') as unknown,
  });
});

test('an SFTP session without answers on a live connection is ended', async () => {
  const { connection, config } = await connectTo({});
  const files = await SftpSession.open(connection, config, { signal: noAbort(), responseTimeoutMs: 300 });
  await expect(files.lstat('/work')).rejects.toMatchObject({
    code: 'environment_unreachable',
    message: expect.stringContaining('has not answered for 0.3 s') as unknown,
  });
  await expect(files.lstat('/work')).rejects.toMatchObject({ code: 'environment_unreachable' });
});

async function restoreFrom(lies: Lies) {
  const { connection, config } = await connectTo(lies);
  const files = await SftpSession.open(connection, config, { signal: noAbort() });
  const workspace = await makeDirectory();
  const { signal } = new AbortController();
  const restored = await restoreWorkspace({
    manifest: { entries: new Map(), uploadedAt: 0, staleDirectories: new Set() },
    source: new RemoteRestoreSource(files, '/work', signal),
    workspace: new LocalWorkspace(workspace),
    leaseId: 'a lease',
    signal,
  });
  return { restored, workspace };
}

async function connectTo(lies: Lies) {
  const key = newKeyPair();
  const server = new ssh2.Server({ hostKeys: [key.private] }, (client) => {
    client.on('authentication', (context) => context.accept());
    client.on('error', () => undefined);
    client.on('session', (accept) => accept().on('sftp', (acceptSftp) => lie(acceptSftp(), lies)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const config = sshConfigSchema.parse({
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    username: 'somebody',
    remoteWorkspacePath: '/work',
    privateKey: 'env:KEY',
    strictHostKeyChecking: false,
  });
  const secrets = createSecretResolver({ env: { KEY: key.private }, secretKey: undefined });
  const connection = await SshConnection.connect(config, { secrets, signal: new AbortController().signal });
  onTestFinished(() => connection.close());
  return { connection, config };
}

/** Answers as it likes. */
function lie(sftp: SFTPWrapper, { listings, isEndless = false, target = '', content = '', size }: Lies): void {
  // Without a listener, ssh2 answers that it cannot do it.
  if (listings === undefined) return void sftp.on('LSTAT', () => undefined);
  const attributes = (mode: number): Attributes => ({
    mode,
    uid: 0,
    gid: 0,
    size: size ?? content.length,
    atime: 5,
    mtime: 5,
  });
  const told = new Set<string>();
  sftp.on('OPENDIR', (id: number, path: string) => {
    told.delete(path);
    sftp.handle(id, Buffer.from(path));
  });
  sftp.on('READDIR', (id: number, handle: Buffer) => {
    const path = handle.toString();
    if (told.has(path) && !isEndless) return sftp.status(id, STATUS_CODE.EOF);
    told.add(path);
    const names = listings[path.replace(/^\/work\/?/, '')] ?? [];
    sftp.name(
      id,
      names.map(([filename, mode]) => ({ filename, longname: filename, attrs: attributes(mode) })),
    );
  });
  sftp.on('READLINK', (id: number) => sftp.name(id, [{ filename: target, longname: '', attrs: attributes(SYMLINK) }]));
  sftp.on('OPEN', (id: number, path: string) => sftp.handle(id, Buffer.from(path)));
  sftp.on('FSTAT', (id: number) => sftp.attrs(id, attributes(FILE)));
  sftp.on('READ', (id: number, _handle: Buffer, offset: number) => {
    if (offset >= content.length) return sftp.status(id, STATUS_CODE.EOF);
    sftp.data(id, Buffer.from(content.slice(offset)));
  });
  sftp.on('CLOSE', (id: number) => sftp.status(id, STATUS_CODE.OK));
}
