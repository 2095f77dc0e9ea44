import { PassThrough } from 'node:stream';
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { ClientChannel } from 'ssh2';
import type { StreamedProcess, ToldEnd } from '../command-streams.ts';

/** What of an output waits between the channel and its reader, in bytes. */
const BUFFERED_BYTES = 64 * 1024;

/** The host is told after so many bytes that it may send as many more. */
const TELL_AFTER_BYTES = 256 * 1024;

/**
 * The streams of a command on a host, which may send only as much as its readers take. ssh2 by itself lets the host go
 * on sending as long as one of the two outputs is read, and keeps all of the other one in memory.
 */
export function streamsOf(channel: ClientChannel): StreamedProcess {
  const letSend = takeOverWindow(channel);
  let taken = 0;
  const onTaken = (count: number) => {
    taken += count;
    if (taken < TELL_AFTER_BYTES) return;
    letSend(taken);
    taken = 0;
  };
  const stdout = pacedBy(channel, onTaken);
  const stderr = pacedBy(channel.stderr, onTaken);
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

/** The end is told by an event, once, and that can be before anybody could listen. */
export function endToldBy(channel: ClientChannel): ToldEnd | undefined {
  const { code, signal } = Reflect.get(channel, '_exit') as { code?: number | null; signal?: string };
  return code === undefined ? undefined : { code, signal: signal ?? null };
}

function pacedBy(output: Readable, onTaken: (count: number) => void): Readable {
  const paced = new PassThrough({ highWaterMark: BUFFERED_BYTES });
  output.on('data', (chunk: Buffer) => void paced.write(chunk, () => onTaken(chunk.length)));
  output.once('end', () => paced.end());
  return paced;
}

/** Has the host told of its window by nobody but who calls what is returned. ssh2 1.17 does not show it in its types. */
function takeOverWindow(channel: ClientChannel): (bytes: number) => void {
  const incoming = Reflect.get(channel, 'incoming') as { window: number };
  const outgoing = Reflect.get(channel, 'outgoing') as { id: number; state: string };
  const client = Reflect.get(channel, '_client') as object;
  const protocol = Reflect.get(client, '_protocol') as { channelWindowAdjust(channel: number, bytes: number): void };
  // A window that is always full is never widened.
  const full = incoming.window;
  Object.defineProperty(incoming, 'window', { get: () => full, set: () => {} });
  return (bytes) => {
    if (outgoing.state !== 'closed') protocol.channelWindowAdjust(outgoing.id, bytes);
  };
}
