import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerChannel, Session } from 'ssh2';
import { ChannelOutput } from './channel-output.ts';
import type { LoginAccount } from './login-account.ts';
import type { OwnerWatch } from './owner-watch.ts';
import { ProcessGroup } from './process-group.ts';
import type { Transport } from './transport.ts';

interface CommandSession {
  readonly command: string;
  readonly channel: ServerChannel;
  readonly session: Session;
  readonly account: LoginAccount;
  readonly watch: OwnerWatch;
  readonly transport: Transport;
}

/** How long a command that was hung up is waited for. */
const HANGUP_GRACE_MS = 1_000;

/** What a shell ends with when it cannot run a command. */
const CANNOT_RUN = 126;

/** Runs a command as sshd does without a terminal. Resolves when it has ended and the client was told all of it. */
export async function runCommand({ command, account, ...options }: CommandSession): Promise<void> {
  const { channel, session, transport } = options;
  const closed = new AbortController();
  session.once('close', () => closed.abort());
  for (const stream of [channel, channel.stderr]) stream.on('error', (error: Error) => transport.fail(error));
  const gone = AbortSignal.any([closed.signal, transport.closed]);
  const output = new ChannelOutput(channel, transport, gone);
  try {
    const shell = await spawnShell(command, account);
    await attend(shell, { ...options, output, gone });
  } catch (error) {
    await output.write('stderr', Buffer.from(`${error instanceof Error ? error.message : String(error)}\n`));
    output.exit(CANNOT_RUN);
  } finally {
    output.end();
  }
}

interface Shell extends ChildProcessWithoutNullStreams {
  readonly pid: number;
}

/** As a session leader, so that all of its process group is reached by one signal. */
async function spawnShell(command: string, { shell, home, environment }: LoginAccount): Promise<Shell> {
  const child = spawn(shell, ['-c', command], { cwd: home, env: environment, detached: true, stdio: 'pipe' });
  await new Promise<void>((resolve, reject) => void child.once('spawn', resolve).once('error', reject));
  return child as Shell;
}

interface Attendance {
  readonly channel: ServerChannel;
  readonly session: Session;
  readonly watch: OwnerWatch;
  readonly output: ChannelOutput;
  /** Aborted when the client closed the channel, or is gone itself. */
  readonly gone: AbortSignal;
}

async function attend(shell: Shell, { channel, session, watch, output, gone }: Attendance): Promise<void> {
  const group = new ProcessGroup(shell, shell.pid, watch);
  session.on('signal', (accept, reject, { name }) => {
    const signal = signalNamed(name);
    if (!signal) return reject?.();
    group.signal(signal);
    accept?.();
  });
  // At once, as a process that it left in the background may hold its output open for long.
  const ended = group.ended.then((end) => output.exit(end));
  feed(channel, shell, gone);
  const told = Promise.all([ended, forward(shell.stdout, 'stdout', output), forward(shell.stderr, 'stderr', output)]);
  await Promise.race([told, aborted(gone)]);
  if (!gone.aborted) return;
  group.signal('SIGHUP');
  for (const stream of [shell.stdin, shell.stdout, shell.stderr]) stream.destroy();
  // Whoever ignores the hangup goes on without us, as under sshd.
  shell.unref();
  await Promise.race([told, delay(HANGUP_GRACE_MS, undefined, { ref: false })]);
}

function feed(channel: ServerChannel, { stdin }: Shell, gone: AbortSignal): void {
  // A command need not read what it is sent; the rest is read for it, so that the client gets to the end of it.
  const discard = () => {
    channel.unpipe(stdin);
    if (!gone.aborted) channel.resume();
  };
  stdin.on('error', discard).on('close', discard);
  // Reading on would have ssh2 tell the client so.
  gone.addEventListener('abort', () => channel.unpipe(stdin), { once: true });
  if (!gone.aborted) channel.pipe(stdin);
}

async function forward(source: Readable, target: 'stdout' | 'stderr', output: ChannelOutput): Promise<void> {
  const chunks = source.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  try {
    for await (const chunk of chunks) await output.write(target, chunk);
  } catch (error) {
    // It was destroyed because nobody listens any more.
    if (!source.destroyed) throw error;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** RFC 4254 names them without SIG. */
function signalNamed(name: string): NodeJS.Signals | undefined {
  const signal = `SIG${name}`;
  return Object.hasOwn(constants.signals, signal) ? (signal as NodeJS.Signals) : undefined;
}
