import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import type { Client, ClientChannel, ConnectConfig } from 'ssh2';
import { onTestFinished } from 'vitest';
import { openEphemeralSshd } from '../../../src/embedded/sshd/ephemeral-sshd.ts';
import type { EphemeralSshd } from '../../../src/embedded/sshd/ephemeral-sshd.ts';
import { runningProcesses } from '../../../testing/running-processes.ts';

/** An empty directory, removed after the test. */
export async function makeDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-ssh-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

/** A server that is closed after the test at the latest, and a directory of its own. */
export async function open(): Promise<EphemeralSshd> {
  const server = await openEphemeralSshd({ directory: await makeDirectory() });
  onTestFinished(() => server.close());
  return server;
}

/** A client that is logged in. Later errors show as its closing. */
export async function connect(server: EphemeralSshd, differing: Partial<ConnectConfig> = {}): Promise<Client> {
  const client = new ssh2.Client();
  const { host, port, username } = server;
  const privateKey = await readFile(server.privateKeyPath);
  // The first error rejects; more may follow it.
  client.on('error', () => undefined);
  const ready = once(client, 'ready');
  client.connect({ host, port, username, privateKey, readyTimeout: 30_000, ...differing });
  await ready;
  // Else each small request may wait 40 ms for the acknowledgement of the one before.
  client.setNoDelay(true);
  return client;
}

/** As {@link connect}, and closed after the test. */
export async function connectForTest(server: EphemeralSshd, differing: Partial<ConnectConfig> = {}): Promise<Client> {
  const client = await connect(server, differing);
  onTestFinished(() => void client.end());
  return client;
}

/** Resolves when the client is disconnected, whether or not with an error. */
export function disconnected(client: Client): Promise<void> {
  return new Promise((resolve) => void client.once('close', () => resolve()));
}

export function execute(client: Client, command: string): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    client.exec(command, (error, channel) => (error ? reject(error) : resolve(channel)));
  });
}

interface CommandResult {
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly code: number | null;
  readonly signal: string | undefined;
}

/** Collects the output and the exit of a command until its channel is closed. */
async function collect(channel: ClientChannel): Promise<CommandResult> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  channel.on('data', (chunk: Buffer) => stdout.push(chunk));
  channel.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  // 'exit' may have been emitted before anybody listened; 'close' waits until all is read.
  const [code = null, signal] = (await once(channel, 'close')) as [number?, string?];
  return { stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString(), code, signal };
}

export async function run(client: Client, command: string, input: string | Buffer = ''): Promise<CommandResult> {
  const channel = await execute(client, command);
  const result = collect(channel);
  channel.end(input);
  return result;
}

/** Process numbers of everything that this process started, and of what that started. */
export function descendants(pid: number): number[] {
  const processes = runningProcesses();
  const below = (parent: number): number[] =>
    processes.filter((running) => running.parent === parent).flatMap((child) => [child.pid, ...below(child.pid)]);
  return below(pid);
}

export function alive(pids: readonly number[]): number[] {
  const running = new Set(runningProcesses().map(({ pid }) => pid));
  return pids.filter((pid) => running.has(pid));
}

/** Whether a command runs with these words in its line. */
export function isRunning(words: string): boolean {
  return runningProcesses().some(({ command }) => command.includes(words));
}
