import { PassThrough } from 'node:stream';
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { ClientChannel } from 'ssh2';
import type { ProcessStreams, ReportedExit } from '../command-streams.ts';

/** Buffer between the channel and the reader of an output, in bytes. */
const BUFFER_BYTES = 64 * 1024;

/** The window is extended after so many bytes were consumed. */
const WINDOW_ADJUST_BYTES = 256 * 1024;

/**
 * The streams of a command on a host, with backpressure: the host may send only as much as the readers consume. ssh2 alone
 * extends the window as long as one of the two outputs is read, and keeps all of the other one in memory.
 */
export function processStreamsOf(channel: ClientChannel): ProcessStreams {
  const extendWindow = takeWindowControl(channel);
  let consumed = 0;
  const onConsumed = (count: number) => {
    consumed += count;
    if (consumed < WINDOW_ADJUST_BYTES) return;
    extendWindow(consumed);
    consumed = 0;
  };
  const stdout = bufferedOutput(channel, onConsumed);
  const stderr = bufferedOutput(channel.stderr, onConsumed);
  const outputsEnded = Promise.all([finished(stdout), finished(stderr)]);
  return {
    stdin: channel,
    stdout,
    stderr,
    on(event, listener) {
      if (event === 'exit') channel.on('exit', listener);
      else
        channel.on('close', (code?: number | null, signal?: string) => {
          void outputsEnded.then(() => listener(code, signal));
        });
    },
  };
}

/** The exit that was already reported: its event comes once, possibly before the first listener. */
export function reportedExitOf(channel: ClientChannel): ReportedExit | undefined {
  const { code, signal } = Reflect.get(channel, '_exit') as { code?: number | null; signal?: string };
  return code === undefined ? undefined : { code, signal: signal ?? null };
}

function bufferedOutput(output: Readable, onConsumed: (count: number) => void): Readable {
  const buffered = new PassThrough({ highWaterMark: BUFFER_BYTES });
  output.on('data', (chunk: Buffer) => void buffered.write(chunk, () => onConsumed(chunk.length)));
  output.once('end', () => buffered.end());
  return buffered;
}

/** From now on only the returned function extends the channel's window. ssh2 1.17 has no public API for it. */
function takeWindowControl(channel: ClientChannel): (bytes: number) => void {
  const incoming = Reflect.get(channel, 'incoming') as { window: number };
  const outgoing = Reflect.get(channel, 'outgoing') as { id: number; state: string };
  const client = Reflect.get(channel, '_client') as object;
  const protocol = Reflect.get(client, '_protocol') as { channelWindowAdjust(channel: number, bytes: number): void };
  // ssh2 never extends a window that is always full.
  const full = incoming.window;
  Object.defineProperty(incoming, 'window', { get: () => full, set: () => {} });
  return (bytes) => {
    if (outgoing.state !== 'closed') protocol.channelWindowAdjust(outgoing.id, bytes);
  };
}
