import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Client, ClientChannel, SFTPWrapper } from 'ssh2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSshServer, type SshServer } from '../../../src/embedded/ssh-server/index.ts';
import { connect, connectForTest, disconnected, execute, makeDirectory, openSftp, run } from './ssh-server-fixture.ts';

const [INIT, OPEN, CLOSE, READ, WRITE, FSTAT, FSETSTAT, READDIR] = [1, 3, 4, 5, 6, 8, 10, 12];
const [STATUS, HANDLE, DATA] = [101, 102, 103];
const FAILURE = 4;
const BAD_MESSAGE = 5;

// In this process, where whatever is not contained fails the test run.
let directory: string;
let server: SshServer;
let bystander: Client;
let bystanderFiles: SFTPWrapper;

beforeAll(async () => {
  directory = await makeDirectory();
  server = await openSshServer({ kind: 'builtin', directory });
  bystander = await connect(server);
  bystanderFiles = await openSftp(bystander);
});
afterAll(async () => {
  bystander.end();
  await server.close();
  await rm(directory, { recursive: true });
});

test.each([
  ['is silent', ''],
  ['talks nonsense', 'GET / HTTP/1.1\r\n\r\n'],
  ['goes on with nonsense', `SSH-2.0-nonsense\r\n${'nonsense'.repeat(1_000)}`],
  ['never ends its first line', `SSH-2.0-${'x'.repeat(100_000)}`],
])('a client that %s is dropped, and nobody else', async (_what, words) => {
  const socket = createConnection(server.port, server.host).resume();
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.end(words);
  await once(socket, 'close');
  expect(await isUnharmed()).toBe(true);
});

test.each([
  ['of an unknown type', Buffer.from([0, 0, 0, 5, 99, 0, 0, 0, 1])],
  ['without a length', Buffer.from([0, 0, 0, 0])],
  ['of 2 GB', Buffer.from([0x80, 0, 0, 0, OPEN, 0, 0, 0, 1])],
  ['of 300 KiB', Buffer.from([0, 4, 0xb0, 0, WRITE, 0, 0, 0, 1])],
  ['that ends too early', Buffer.from([0, 0, 0, 9, OPEN, 0, 0, 0, 1, 0, 0, 0, 99])],
])('an SFTP packet %s ends the session that it came on', async (_what, bytes) => {
  const { channel } = await openRawSftp();
  channel.write(bytes);
  await once(channel, 'close');
  expect(await isUnharmed()).toBe(true);
});

test('handles that were never given are refused, for every request', async () => {
  const { ask } = await openRawSftp();
  const noHandle = string(Buffer.from('made up'));
  const noAttributes = uint32(0);
  const requests: [number, ...Buffer[]][] = [
    [READ, noHandle, uint64(0n), uint32(10)],
    [WRITE, noHandle, uint64(0n), string(Buffer.from('data'))],
    [FSTAT, noHandle],
    [FSETSTAT, noHandle, noAttributes],
    [READDIR, noHandle],
  ];
  for (const [type, ...fields] of requests) {
    expect(await ask(type, ...fields)).toMatchObject({ type: STATUS, status: FAILURE });
  }
  expect(await ask(CLOSE, noHandle)).toMatchObject({ type: STATUS, status: 2 });
});

test('a read of 4 GB gets at most 255 KiB, and offsets beyond all files get an error', async () => {
  const path = join(directory, randomUUID());
  await writeFile(path, Buffer.alloc(1_000_000, 'x'));
  const { ask } = await openRawSftp();
  const { type, payload } = await ask(OPEN, string(Buffer.from(path)), uint32(3), uint32(0));
  expect(type).toBe(HANDLE);
  const read = await ask(READ, payload, uint64(0n), uint32(0xffff_ffff));
  expect([read.type, read.payload.length]).toEqual([DATA, 4 + 255 * 1_024]);
  const farAway = uint64(2n ** 64n - 1n);
  expect(await ask(READ, payload, farAway, uint32(10))).toMatchObject({ type: STATUS, status: BAD_MESSAGE });
  const beyond = await ask(WRITE, payload, farAway, string(Buffer.from('x')));
  expect(beyond).toMatchObject({ type: STATUS, status: BAD_MESSAGE });
  expect(await ask(CLOSE, payload)).toMatchObject({ type: STATUS, status: 0 });
  expect(await ask(CLOSE, payload)).toMatchObject({ type: STATUS, status: 2 });
});

test('a path with a NUL in it is refused', async () => {
  const { ask } = await openRawSftp();
  const answer = await ask(OPEN, string(Buffer.from(`${directory}/a\0b`)), uint32(1), uint32(0));
  expect(answer).toMatchObject({ type: STATUS, status: BAD_MESSAGE });
});

test('more handles than a client can need are refused, and all are closed with its session', async () => {
  const path = join(directory, randomUUID());
  await writeFile(path, '');
  const before = await openFiles(path);
  const { ask, channel } = await openRawSftp();
  const answers = Array.from({ length: 600 }, () => ask(OPEN, string(Buffer.from(path)), uint32(1), uint32(0)));
  const given = (await Promise.all(answers)).filter(({ type }) => type === HANDLE);
  expect(given).toHaveLength(512);
  channel.close();
  await once(channel, 'close');
  expect(before).toBe(0);
  await expect.poll(() => openFiles(path)).toBe(0);
});

test('a client that asks for more than it takes is dropped before it costs much memory', async () => {
  const path = join(directory, randomUUID());
  await writeFile(path, Buffer.alloc(300_000));
  const { ask, channel, client } = await openRawSftp();
  const { payload } = await ask(OPEN, string(Buffer.from(path)), uint32(1), uint32(0));
  channel.removeAllListeners('data').pause();
  const closed = disconnected(client);
  for (let id = 10; id < 2_000; id += 1)
    channel.write(packet(READ, uint32(id), payload, uint64(0n), uint32(255 * 1_024)));
  await closed;
  expect(await isUnharmed()).toBe(true);
});

test('a client that leaves while its command has not read its input harms nobody', async () => {
  const client = await connect(server);
  const channel = await execute(client, 'echo ready; exec sleep 600');
  await once(channel, 'data');
  channel.write(Buffer.alloc(4 * 1_024 * 1_024));
  // What the channel's window allows is there when the answer to a later request is.
  await run(client, 'exit 0');
  const closed = disconnected(client);
  client.destroy();
  await closed;
  expect(await isUnharmed()).toBe(true);
});

test('a client that leaves in the midst of an answer harms nobody', async () => {
  for (let round = 0; round < 2; round += 1) {
    const client = await connect(server);
    const [channel, more] = await Promise.all([execute(client, 'cat /dev/zero'), execute(client, 'cat /dev/zero >&2')]);
    more.stderr.resume();
    await once(channel, 'data');
    client.destroy();
  }
  expect(await isUnharmed()).toBe(true);
});

test('a command line that cannot be run is answered with the reason', async () => {
  const { code, stderr } = await run(bystander, 'echo a\0b');
  expect(code).toBe(126);
  expect(stderr).toContain('without null bytes');
});

/** Whether the server goes on, and serves the client that did nothing wrong. */
async function isUnharmed(): Promise<boolean> {
  const resolved = await promisify(bystanderFiles.realpath.bind(bystanderFiles))('/');
  return resolved === '/';
}

interface RawAnswer {
  readonly type: number;
  readonly status: number | undefined;
  /** What follows the number of the request; for a handle or data with its length. */
  readonly payload: Buffer;
}

/** An SFTP session with a client that sends what it is given. */
async function openRawSftp() {
  const client = await connectForTest(server);
  const channel = await new Promise<ClientChannel>((resolve, reject) => {
    client.subsys('sftp', (error, opened) => (error ? reject(error) : resolve(opened)));
  });
  const waiting = new Map<number, (answer: RawAnswer) => void>();
  let received = Buffer.alloc(0);
  channel.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 4 && received.length >= 4 + received.readUInt32BE()) {
      const whole = received.subarray(4, 4 + received.readUInt32BE());
      received = received.subarray(4 + whole.length);
      const [type, payload] = [whole.readUInt8(), whole.subarray(5)];
      waiting.get(whole.readUInt32BE(1))?.({
        type,
        payload,
        status: type === STATUS ? payload.readUInt32BE() : undefined,
      });
    }
  });
  const version = once(channel, 'data');
  channel.write(packet(INIT, uint32(3)));
  await version;
  let last = 0;
  const ask = (type: number, ...fields: Buffer[]) => {
    last += 1;
    const answer = new Promise<RawAnswer>((resolve) => waiting.set(last, resolve));
    channel.write(packet(type, uint32(last), ...fields));
    return answer;
  };
  return { ask, channel, client };
}

function packet(type: number, ...fields: Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from([type]), ...fields]);
  return Buffer.concat([uint32(body.length), body]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function uint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

function string(bytes: Buffer): Buffer {
  return Buffer.concat([uint32(bytes.length), bytes]);
}

/** How often this process has the file open, where the system tells. */
async function openFiles(path: string): Promise<number> {
  const descriptors = await readdir('/proc/self/fd').catch(() => []);
  const targets = await Promise.all(descriptors.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')));
  return targets.filter((target) => target === path).length;
}
