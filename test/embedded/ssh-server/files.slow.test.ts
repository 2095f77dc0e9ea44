import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readFile, readlink, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import type { Client, FileEntry, SFTPWrapper } from 'ssh2';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openSshServer, type SshServer } from '../../../src/embedded/ssh-server/index.ts';
import { connect, kinds, makeDirectory, openSftp } from './ssh-server-fixture.ts';

const NO_SUCH_FILE = { code: 2 };
const FAILURE = { code: 4 };

const MANY = Array.from({ length: 3_000 }, (_, index) => `file ${index} – ü`);
let directoryOfMany: string;

beforeAll(async () => {
  directoryOfMany = await makeDirectory();
  await Promise.all(MANY.map((name) => writeFile(join(directoryOfMany, name), name)));
});
afterAll(() => rm(directoryOfMany, { recursive: true }));

describe.each(kinds)('SFTP on a server of the kind %s', (kind) => {
  let directory: string;
  let server: SshServer;
  let client: Client;
  let sftp: SFTPWrapper;
  let place: string;

  beforeAll(async () => {
    directory = await makeDirectory();
    server = await openSshServer({ kind, directory });
    client = await connect(server);
    sftp = await openSftp(client);
  });
  beforeEach(async () => {
    place = join(directory, randomBytes(6).toString('hex'));
    await mkdir(place);
  });
  afterAll(async () => {
    client.end();
    await server.close();
    await rm(directory, { recursive: true });
  });

  /** A method of the client, with a promise for its callback. */
  function ask<Answer = void>(method: keyof SFTPWrapper, ...given: unknown[]): Promise<Answer> {
    return promisify((sftp[method] as (...all: unknown[]) => void).bind(sftp))(...(given as [])) as Promise<Answer>;
  }

  test('stores 24 MB as they are, and gives them back', async () => {
    const content = randomBytes(24 * 1_024 * 1_024 + 7);
    const [local, remote, back] = [join(place, 'local'), join(place, 'remote'), join(place, 'back')];
    await writeFile(local, content);
    await ask('fastPut', local, remote);
    expect((await readFile(remote)).equals(content)).toBe(true);
    await ask('fastGet', remote, back);
    expect((await readFile(back)).equals(content)).toBe(true);
  });

  test('lists 3,000 files, each once', async () => {
    const entries = await ask<FileEntry[]>('readdir', directoryOfMany);
    expect(entries.map(({ filename }) => filename).toSorted()).toEqual(MANY.toSorted());
    expect(entries.every(({ filename, attrs }) => attrs.size === Buffer.byteLength(filename))).toBe(true);
  });

  test('tells what kind of file each is, its size, owner, permissions and times', async () => {
    await writeFile(join(place, 'file'), 'content', { mode: 0o640 });
    await utimes(join(place, 'file'), 1_000_000_000, 1_111_111_111);
    await mkdir(join(place, 'folder'), { mode: 0o750 });
    await symlink('file', join(place, 'link'));
    const entries = await ask<FileEntry[]>('readdir', place);
    expect(entries.map(({ filename }) => filename).toSorted()).toEqual(['file', 'folder', 'link']);
    for (const { filename, attrs, longname } of entries) {
      const { mode, uid, gid, size, atimeMs, mtimeMs } = await lstat(join(place, filename));
      const times = { atime: Math.floor(atimeMs / 1_000), mtime: Math.floor(mtimeMs / 1_000) };
      expect(attrs).toMatchObject({ mode, uid, gid, size, ...times });
      expect(longname).toMatch({ file: /^-rw-r-----/, folder: /^drwxr-x---/, link: /^lrwxrwxrwx/ }[filename]!);
      expect(await ask('lstat', join(place, filename))).toMatchObject({ mode, uid, gid, size, ...times });
    }
    const link = await ask<{ isFile(): boolean; size: number }>('stat', join(place, 'link'));
    expect([link.isFile(), link.size]).toEqual([true, 7]);
  });

  test('changes size, permissions and times, of a path and of an open file', async () => {
    const [path, file] = [join(place, 'path'), join(place, 'file')];
    await writeFile(path, 'long content');
    await writeFile(file, 'long content');
    const attributes = { size: 4, mode: 0o600, atime: 1_000_000_000, mtime: 1_111_111_111 };
    await ask('setstat', path, attributes);
    const handle = await ask<Buffer>('open', file, 'r+');
    await ask('fsetstat', handle, attributes);
    expect(await ask('fstat', handle)).toMatchObject({ ...attributes, mode: 0o100_600 });
    await ask('close', handle);
    for (const changed of [path, file]) {
      const { mode, mtimeMs } = await stat(changed);
      expect([mode & 0o7777, mtimeMs, await readFile(changed, 'utf8')]).toEqual([0o600, 1_111_111_111_000, 'long']);
    }
    await ask('chmod', path, 0o4755);
    expect((await stat(path)).mode & 0o7777).toBe(0o4755);
  });

  test('makes links as they are told, and reads them', async () => {
    await ask('symlink', '../somewhere else', join(place, 'link'));
    expect(await readlink(join(place, 'link'))).toBe('../somewhere else');
    expect(await ask('readlink', join(place, 'link'))).toBe('../somewhere else');
    await expect(ask('stat', join(place, 'link'))).rejects.toMatchObject(NO_SUCH_FILE);
  });

  test('renames files and directories, and never over others', async () => {
    const [from, to, other] = [join(place, 'from'), join(place, 'to'), join(place, 'other')];
    await writeFile(from, 'moved');
    await ask('rename', from, to);
    expect(await readFile(to, 'utf8')).toBe('moved');
    await expect(lstat(from)).rejects.toMatchObject({ code: 'ENOENT' });
    await writeFile(other, 'other');
    await expect(ask('rename', to, other)).rejects.toMatchObject(FAILURE);
    expect(await readFile(other, 'utf8')).toBe('other');
    await mkdir(join(place, 'folder'));
    await expect(ask('rename', join(place, 'folder'), other)).rejects.toMatchObject(FAILURE);
    await ask('rename', join(place, 'folder'), join(place, 'renamed'));
    expect((await stat(join(place, 'renamed'))).isDirectory()).toBe(true);
    await expect(ask('rename', from, to)).rejects.toMatchObject(NO_SUCH_FILE);
  });

  test('makes and removes, and says why it does not', async () => {
    const folder = join(place, 'folder');
    await ask('mkdir', folder, { mode: 0o700 });
    expect((await stat(folder)).mode & 0o7777).toBe(0o700);
    await expect(ask('mkdir', folder)).rejects.toMatchObject(FAILURE);
    await writeFile(join(folder, 'file'), '');
    await expect(ask('rmdir', folder)).rejects.toMatchObject(FAILURE);
    await expect(ask('unlink', join(folder, 'other'))).rejects.toMatchObject(NO_SUCH_FILE);
    await expect(ask('opendir', join(folder, 'file'))).rejects.toMatchObject(NO_SUCH_FILE);
    await expect(ask('readdir', join(folder, 'other'))).rejects.toMatchObject(NO_SUCH_FILE);
    await ask('unlink', join(folder, 'file'));
    await ask('rmdir', folder);
    await expect(ask('rmdir', folder)).rejects.toMatchObject(NO_SUCH_FILE);
  });

  test('opens files as the flags say', async () => {
    const path = join(place, 'file');
    const write = async (flags: string, text: string, position: number) => {
      const handle = await ask<Buffer>('open', path, flags, 0o640);
      await ask('write', handle, Buffer.from(text), 0, text.length, position);
      await ask('close', handle);
      return readFile(path, 'utf8');
    };
    await expect(ask('open', path, 'r')).rejects.toMatchObject(NO_SUCH_FILE);
    await expect(ask('open', path, 'r+')).rejects.toMatchObject(NO_SUCH_FILE);
    expect(await write('wx', '0123456789', 0)).toBe('0123456789');
    expect((await stat(path)).mode & 0o7777 & ~process.umask()).toBe(0o640 & ~process.umask());
    await expect(ask('open', path, 'wx')).rejects.toMatchObject(FAILURE);
    expect(await write('r+', 'ab', 4)).toBe('0123ab6789');
    expect(await write('a', 'end', 0)).toBe('0123ab6789end');
    expect(await write('w', 'anew', 0)).toBe('anew');
    expect(await write('r+', 'far', 8)).toBe('anew\0\0\0\0far');
  });

  test('reads to the end of a file and no further', async () => {
    await writeFile(join(place, 'file'), 'content');
    const handle = await ask<Buffer>('open', join(place, 'file'), 'r');
    const buffer = Buffer.alloc(100);
    expect(await ask('read', handle, buffer, 0, 100, 3)).toBe(4);
    expect(buffer.toString('utf8', 0, 4)).toBe('tent');
    expect(await ask('read', handle, buffer, 0, 100, 7)).toBe(0);
    await ask('close', handle);
    await expect(ask('fstat', handle)).rejects.toMatchObject(FAILURE);
  });

  test('starts at home, and resolves what is there', async () => {
    expect(await ask('realpath', '.')).toBe(homedir());
    expect(await ask('realpath', '')).toBe(homedir());
    await mkdir(join(place, 'folder'));
    await symlink('folder', join(place, 'link'));
    expect(await ask('realpath', join(place, 'link/../link/new'))).toMatch(/folder\/new$/);
    await expect(ask('realpath', join(place, 'missing/new'))).rejects.toMatchObject(NO_SUCH_FILE);
  });

  test('does what it is asked in the order in which it is asked, without waiting for answers', async () => {
    const path = join(place, 'file');
    const handle = await ask<Buffer>('open', path, 'w');
    const writes = Array.from({ length: 100 }, (_, index) => ask('write', handle, Buffer.from('x'), 0, 1, index));
    const size = ask<{ size: number }>('fstat', handle);
    const closed = ask('close', handle);
    const renamed = ask('rename', path, `${path} renamed`);
    expect((await size).size).toBe(100);
    await Promise.all([...writes, closed, renamed]);
    expect(await readFile(`${path} renamed`, 'utf8')).toBe('x'.repeat(100));
  });

  test.each([`quote ' " \` $HOME`, 'two\nlines', '-rf', ' ', '…', 'x'.repeat(255)])(
    'takes %j for a name',
    async (name) => {
      await ask('mkdir', join(place, name));
      expect((await ask<FileEntry[]>('readdir', place)).map(({ filename }) => filename)).toEqual([name]);
      expect(basename(await ask<string>('realpath', join(place, name)))).toBe(name);
    },
  );
});
