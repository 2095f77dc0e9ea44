/**
 * The places where ssh2 1.17 has to be helped from outside, by fields that its types do not show.
 *
 * @module
 */
import type { ServerChannel, SFTPWrapper } from 'ssh2';

/** What ssh2 could not send until the client widened the window, and whom it tells afterwards. */
const PAUSED_WRITES = ['_chunk', '_chunkcb', '_chunkErr', '_chunkcbErr'];

/**
 * To be called after each write to a channel or its stderr, of which there must be one at a time. ssh2 remembers a
 * write that had to wait, and never forgets it: when stderr has to wait after stdout had to, what stdout has sent long
 * ago is sent once more, in place of what stderr has to say.
 */
export function forgetPausedWrites(channel: ServerChannel): void {
  for (const field of PAUSED_WRITES) Reflect.set(channel, field, undefined);
}

/** The answers that wait for the client to widen the window of its SFTP channel. ssh2 keeps any number of them. */
export function unsentAnswers(sftp: SFTPWrapper): readonly Buffer[] {
  return Reflect.get(sftp, '_buffer') as Buffer[];
}
