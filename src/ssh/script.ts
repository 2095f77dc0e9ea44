import { readFile } from 'node:fs/promises';
import type { ClientChannel } from 'ssh2';
import { EnvironmentFailedError } from '../contracts/index.ts';

/** The result of a script. */
export interface ScriptResult {
  /** Null when a signal ended it. */
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** The command that reads a script: the same words to every login shell, be it bash, fish or csh. */
export const SCRIPT_COMMAND = 'sh -s';

const FRAMED_SCRIPT = new URL('./framed-script.sh', import.meta.url);

/**
 * Reads shell programs of this package and joins them in this order: a later one can call functions that an earlier one
 * defines. They are read on each use, so that importing the package opens no file.
 */
export async function readShellPrograms(...files: URL[]): Promise<string> {
  const programs = await Promise.all(files.map((file) => readFile(file, 'utf8')));
  return programs.join('\n');
}

/**
 * Quotes text for a POSIX shell: it becomes one word of exactly these characters.
 * @throws {EnvironmentFailedError} `driver_failed` for text with a NUL, which no process can be given
 */
export function quote(text: string): string {
  if (text.includes('\0')) {
    throw new EnvironmentFailedError(
      'driver_failed',
      'text with a NUL character cannot be given to a process; remove it',
    );
  }
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/**
 * Makes the input for {@link SCRIPT_COMMAND} of a script. Nothing of it runs before all of it has arrived, and its output
 * stands between two markers, since login shells can print as well.
 */
export async function frameScript(script: string, args: readonly string[], marker: string): Promise<string> {
  const words = [marker.slice(0, 7), marker.slice(7), ...args].map((word) => quote(word));
  return `lessor_script() {
${script}
}
${await readShellPrograms(FRAMED_SCRIPT)}
lessor_main() {
lessor_run_framed ${words.join(' ')}
}
lessor_main
`;
}

/** The output of a channel and how its command ended: both null when the host did not report it. */
export interface ChannelOutput {
  code: number | null;
  signal: string | null;
  stdout: Buffer;
  stderr: Buffer;
}

/** Reads a channel to its end, and closes it when it prints more than `maximumBytes`. */
export function readChannel(channel: ClientChannel, maximumBytes: number, signal: AbortSignal): Promise<ChannelOutput> {
  return new Promise((resolve, reject) => {
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    let bytes = 0;
    const onAbort = () => stop(signal.reason as Error);
    const stop = (error: Error) => {
      reject(error);
      signal.removeEventListener('abort', onAbort);
      // A channel with unread output never closes.
      channel.removeAllListeners('data').resume();
      channel.stderr.removeAllListeners('data').resume();
      channel.close();
    };
    const collectInto = (chunks: Buffer[]) => (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > maximumBytes) {
        stop(
          new EnvironmentFailedError('driver_failed', `a script on the host printed more than ${maximumBytes} bytes`),
        );
      }
    };
    channel.on('data', collectInto(stdout));
    channel.stderr.on('data', collectInto(stderr));
    // Not `exit`, which can precede the first listener.
    channel.on('close', (code?: number | null, signalName?: string) => {
      signal.removeEventListener('abort', onAbort);
      resolve({
        code: code ?? null,
        signal: signalName ?? null,
        stdout: Buffer.concat(stdout),
        stderr: Buffer.concat(stderr),
      });
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}

/** The output between the markers; undefined when the script did not run to its end. */
export function betweenMarkers(output: Buffer, marker: string): string | undefined {
  const start = output.indexOf(marker);
  const end = output.lastIndexOf(marker);
  return start === end ? undefined : output.toString('utf8', start + marker.length, end);
}
