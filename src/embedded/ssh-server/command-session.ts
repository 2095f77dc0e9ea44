import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import type { ServerChannel, Session } from 'ssh2';
import { hasErrno } from '../errors.ts';
import { ChannelOutput } from './channel-output.ts';
import type { LoginAccount } from './login-account.ts';
import type { OwnerWatch } from './owner-watch.ts';
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
const HANGUP_GRACE_MS = 2_000;

/** What a shell ends with when it cannot run a command. */
const CANNOT_RUN = 126;

/** Runs a command as sshd does without a terminal. Resolves when it has ended and the client was told all of it. */
export async function runCommand(options: CommandSession): Promise<void> {
  const { channel, session, watch, transport } = options;
  const gone = new AbortController();
  const leave = () => gone.abort();
  session.once('close', leave);
  transport.closed.addEventListener('abort', leave, { once: true });
  if (transport.closed.aborted) leave();
  const output = new ChannelOutput(channel, transport, gone.signal);
  try {
    const child = await spawnShell(options);
    await superviseShell(child, { channel, session, watch, output, gone: gone.signal });
  } catch (error) {
    if (!gone.signal.aborted) {
      await output.write('stderr', Buffer.from(`${error instanceof Error ? error.message : String(error)}\n`));
      output.exit(CANNOT_RUN);
    }
  } finally {
    output.end();
    transport.closed.removeEventListener('abort', leave);
  }
}

/** A session leader, so that all of its process group is reached by one signal. */
async function spawnShell({ command, account }: CommandSession): Promise<ChildProcessWithoutNullStreams> {
  const child = spawn(account.shell, ['-c', command], {
    cwd: account.home,
    env: account.environment,
    detached: true,
    stdio: 'pipe',
  });
  await new Promise<void>((resolve, reject) => void child.once('spawn', resolve).once('error', reject));
  return child;
}

interface Supervision {
  readonly channel: ServerChannel;
  readonly session: Session;
  readonly watch: OwnerWatch;
  readonly output: ChannelOutput;
  readonly gone: AbortSignal;
}

async function superviseShell(
  child: ChildProcessWithoutNullStreams,
  { channel, session, watch, output, gone }: Supervision,
): Promise<void> {
  const group = child.pid!;
  watch.hold(group);
  let running = true;
  const signalGroup = (signal: NodeJS.Signals) => {
    if (running) sendToGroup(group, signal);
  };
  session.on('signal', (accept, reject, { name }) => {
    const signal = signalNamed(name);
    if (!signal) return reject?.();
    signalGroup(signal);
    accept?.();
  });
  const ended = new Promise<void>((resolve) => {
    // Whoever ignores the hangup goes on without us, as it does under sshd.
    gone.addEventListener('abort', () => setTimeout(resolve, HANGUP_GRACE_MS).unref(), { once: true });
    child.once('exit', (code, signal) => {
      running = false;
      watch.free(group);
      output.exit(code ?? signal ?? 'SIGKILL');
      resolve();
    });
  });
  const hangUp = () => {
    signalGroup('SIGHUP');
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
  };
  gone.addEventListener('abort', hangUp, { once: true });
  if (gone.aborted) hangUp();
  feed(channel, child);
  await Promise.all([ended, forward(child.stdout, 'stdout', output), forward(child.stderr, 'stderr', output)]);
}

function feed(channel: ServerChannel, { stdin }: ChildProcessWithoutNullStreams): void {
  // A command need not read what it is sent; the rest is read for it, so that the client gets to the end of it.
  stdin.on('error', () => channel.unpipe(stdin).resume());
  stdin.on('close', () => channel.unpipe(stdin).resume());
  channel.pipe(stdin);
}

async function forward(source: Readable, target: 'stdout' | 'stderr', output: ChannelOutput): Promise<void> {
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) await output.write(target, chunk);
  } catch (error) {
    // It was destroyed because nobody listens any more.
    if (!hasErrno(error, 'ERR_STREAM_PREMATURE_CLOSE', 'ECONNRESET', 'EPIPE')) throw error;
  }
}

/** Those of RFC 4254, which are named without SIG. */
function signalNamed(name: string): NodeJS.Signals | undefined {
  const signal = `SIG${name}`;
  return signal in constants.signals ? (signal as NodeJS.Signals) : undefined;
}

function sendToGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch (error) {
    // It has ended, and its end is on the way to us; or it changed its user.
    if (!hasErrno(error, 'ESRCH', 'EPERM')) throw error;
  }
}
