import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openSshServer, type SshServer } from '../../../src/embedded/ssh-server/index.ts';
import { until } from '../../../testing/until.ts';
import type { Client } from 'ssh2';
import {
  alive,
  collect,
  connect,
  connectForTest,
  execute,
  isRunning,
  kinds,
  makeDirectory,
  openSftp,
  run,
} from './ssh-server-fixture.ts';

const MEBIBYTE = 1_024 * 1_024;

describe.each(kinds)('a command on an SSH server of the kind %s', (kind) => {
  let directory: string;
  let server: SshServer;
  let client: Client;

  beforeAll(async () => {
    directory = await makeDirectory();
    server = await openSshServer({ kind, directory });
    client = await connect(server);
  });
  afterAll(async () => {
    client.end();
    await server.close();
    await rm(directory, { recursive: true });
  });

  test('tells its output, its errors and its exit code', async () => {
    const result = await run(client, 'echo told; echo complained >&2; exit 7');
    expect(result).toEqual({ stdout: Buffer.from('told\n'), stderr: 'complained\n', code: 7, signal: undefined });
    expect(await run(client, 'exit 255')).toMatchObject({ code: 255 });
    expect(await run(client, '/no/such/program')).toMatchObject({ code: 127 });
  });

  test('tells the signal that it died of', async () => {
    for (const signal of ['TERM', 'KILL', 'SEGV']) {
      expect(await run(client, `kill -${signal} $$`)).toMatchObject({ code: null, signal: `SIG${signal}` });
    }
  });

  test('reads its input to the end', async () => {
    const input = Buffer.alloc(3 * MEBIBYTE, 'input ');
    const { stdout, code } = await run(client, 'cat; echo the end', input);
    expect(code).toBe(0);
    expect(stdout.equals(Buffer.concat([input, Buffer.from('the end\n')]))).toBe(true);
  });

  test('need not read its input', async () => {
    const result = await run(client, 'exec <&-; echo deaf', Buffer.alloc(8 * MEBIBYTE));
    expect(result).toMatchObject({ stdout: Buffer.from('deaf\n'), code: 0 });
  });

  test('starts in the home directory, with the environment of a login and nothing else of the server', async () => {
    process.env['PLANTED_IN_SERVER'] = 'planted';
    onTestFinished(() => void delete process.env['PLANTED_IN_SERVER']);
    const { stdout } = await run(client, 'pwd; env');
    const [directoryOfStart, ...variables] = stdout.toString().trim().split('\n');
    expect(directoryOfStart).toBe(homedir());
    for (const name of ['HOME', 'USER', 'LOGNAME', 'SHELL', 'PATH']) {
      expect(variables.filter((variable) => variable.startsWith(`${name}=`))).toHaveLength(1);
    }
    expect(stdout.toString()).not.toMatch(/planted|NODE_|VITEST/);
  });

  test('leads a session and a process group of its own', async () => {
    const { stdout } = await run(client, 'echo $$; cut -d" " -f1,5,6 /proc/$$/stat');
    const [shell, ...ids] = stdout.toString().trim().split(/\s/);
    expect(ids).toEqual([shell, shell, shell]);
  });

  test('says 20 MB without a byte changed', async () => {
    const script = `for (let i = 0; i < 20; i++) process.stdout.write(Buffer.alloc(1e6, 'block ' + i + ' '))`;
    const { stdout, code } = await run(client, `'${process.execPath}' -e "${script}"`);
    const expected = Array.from({ length: 20 }, (_, block) => Buffer.alloc(1e6, `block ${block} `));
    expect(code).toBe(0);
    expect(stdout.equals(Buffer.concat(expected))).toBe(true);
  });

  test('says everything once, even when its errors wait for the client after its output had to', async () => {
    const [said, gate] = [join(directory, randomUUID()), join(directory, randomUUID())];
    const say = `head -c ${4 * MEBIBYTE} /dev/zero`;
    const wait = `while [ ! -e ${gate} ]; do sleep 0.02; done`;
    const channel = await execute(client, `echo >>${said}; ${say} | tr '\\0' o; ${wait}; ${say} | tr '\\0' e >&2`);
    await until(() => written(said));
    await settled(() => channel.readableLength);
    const stdout = await take(channel, 4 * MEBIBYTE);
    await writeFile(gate, '');
    await settled(() => channel.stderr.readableLength);
    const { stdout: rest, stderr, code } = await collect(channel);
    expect(stdout.equals(Buffer.alloc(4 * MEBIBYTE, 'o'))).toBe(true);
    expect({ code, rest: rest.toString() }).toEqual({ code: 0, rest: '' });
    expect(stderr === 'e'.repeat(4 * MEBIBYTE)).toBe(true);
  });

  test('is held back by a client that does not read, and goes on with it', async () => {
    const progress = join(directory, randomUUID());
    const command = `for i in $(seq 32); do head -c ${MEBIBYTE} /dev/zero; echo >>${progress}; done`;
    const channel = await execute(client, command);
    await until(() => written(progress));
    expect(await settled(() => written(progress))).toBeLessThan(16);
    const { stdout } = await collect(channel);
    expect(stdout).toHaveLength(32 * MEBIBYTE);
    expect(await written(progress)).toBe(32);
  });

  test('has its end told at once, while what it left in the background keeps the channel open', async () => {
    const gate = join(directory, randomUUID());
    const background = `(while [ ! -e ${gate} ]; do sleep 0.02; done; echo later) &`;
    const channel = await execute(client, `${background} read line; echo $line; exit 4`);
    const exit = once(channel, 'exit');
    const result = collect(channel);
    channel.end('now\n');
    expect(await exit).toMatchObject([4]);
    await writeFile(gate, '');
    expect((await result).stdout.toString()).toBe('now\nlater\n');
  });

  test('is one of at most ten sessions of a connection', async () => {
    const crowded = await connectForTest(server);
    const sessions = await Promise.all(Array.from({ length: 10 }, () => openSftp(crowded)));
    await expect(openSftp(crowded)).rejects.toThrow('Channel open failure');
    const closed = once(sessions[0]!, 'close');
    sessions[0]!.end();
    await closed;
    expect(await run(crowded, 'exit 6')).toMatchObject({ code: 6 });
  });

  test('gets no terminal, and no other way into the network', async () => {
    const terminal = new Promise((resolve, reject) => {
      client.exec('exit 0', { pty: true }, (error, channel) => (error ? reject(error) : resolve(channel)));
    });
    await expect(terminal).rejects.toThrow('Unable to request a pseudo-terminal');
    const forwarded = new Promise((resolve, reject) => {
      client.forwardOut('127.0.0.1', 1, '127.0.0.1', server.port, (error, channel) => {
        if (error) reject(error);
        else resolve(channel);
      });
    });
    await expect(forwarded).rejects.toThrow('Channel open failure');
  });
});

// A sshd that runs as one user for that user itself has no process that could send signals for its client.
describe('a command on an SSH server in this process', () => {
  let directory: string;
  let server: SshServer;

  beforeAll(async () => {
    directory = await makeDirectory();
    server = await openSshServer({ kind: 'builtin', directory });
  });
  afterAll(async () => {
    await server.close();
    await rm(directory, { recursive: true });
  });

  test('gets the signals that its client sends, with all of its process group', async () => {
    const client = await connectForTest(server);
    const channel = await execute(client, 'sleep 600 & echo $!; wait');
    const result = collect(channel);
    const [line] = (await once(channel, 'data')) as [Buffer];
    channel.signal('TERM');
    expect(await result).toMatchObject({ code: null, signal: 'SIGTERM' });
    await until(() => alive([Number(line.toString())]).length === 0);
  });

  test.each(['channel', 'connection'])('is hung up when the client closes the %s', async (what) => {
    const client = await connectForTest(server);
    const note = join(directory, randomUUID());
    const channel = await execute(
      client,
      `exec 2>/dev/null; trap 'echo hung up >${note}; exit' HUP; echo ready; while :; do sleep 0.02; done`,
    );
    await once(channel, 'data');
    if (what === 'channel') channel.close();
    else client.destroy();
    await until(async () => (await written(note)) > 0);
    expect(await readFile(note, 'utf8')).toBe('hung up\n');
  });

  test('that ignores the hangup goes on, and does not hold up the server', async () => {
    const client = await connectForTest(server);
    const mark = randomUUID();
    const channel = await execute(client, `trap '' HUP; echo $$; while :; do sleep 0.02; done; : ${mark}`);
    const [line] = (await once(channel, 'data')) as [Buffer];
    const pid = Number(line.toString());
    onTestFinished(() => void process.kill(-pid, 'SIGKILL'));
    await server.stop();
    await server.start();
    expect(isRunning(mark)).toBe(true);
  });
});

/** Waits until a number is more than nothing and does not change any more, and resolves to it. */
async function settled(read: () => number | Promise<number>): Promise<number> {
  let last = 0;
  let unchanged = 0;
  await until(async () => {
    const now = await read();
    unchanged = now === last && now > 0 ? unchanged + 1 : 0;
    last = now;
    return unchanged === 10;
  });
  return last;
}

async function take(source: Readable, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let missing = length; missing > 0;) {
    const chunk = source.read(Math.min(missing, source.readableLength)) as Buffer | null;
    if (chunk === null) await once(source, 'readable');
    else {
      chunks.push(chunk);
      missing -= chunk.length;
    }
  }
  return Buffer.concat(chunks);
}

/** How many lines were written to the file. */
async function written(path: string): Promise<number> {
  return (await stat(path)).size;
}
