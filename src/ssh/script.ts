import type { ClientChannel } from 'ssh2';
import { EnvironmentFailedError } from '../contracts/index.ts';
import { quote } from './shell.ts';

/** What came of a script. */
export interface ScriptResult {
  /** Null when a signal ended it. */
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** The command that reads a script: the same words to every login shell, be it bash, fish or csh. */
export const SCRIPT_COMMAND = 'sh -s';

/**
 * Makes of a script what is written to {@link SCRIPT_COMMAND}. Nothing of it is executed before all of it has arrived,
 * and what it prints stands between two marks, since login shells may print as well.
 */
export function wrapScript(script: string, args: readonly string[], mark: string): string {
  // In two parts, so that a mark is never what merely echoes the script.
  const parts = `${quote(mark.slice(0, 7))} ${quote(mark.slice(7))}`;
  const printMark = `printf %s%s ${parts}; printf %s%s ${parts} >&2`;
  return `lessor_script() {
${script}
}
lessor_main() {
${printMark}
( lessor_script ${args.map((argument) => quote(argument)).join(' ')} ) </dev/null
lessor_code=$?
${printMark}
exit "$lessor_code"
}
lessor_main
`;
}

/** What a channel printed and how its command ended: both are null where that was not told. */
export interface ChannelOutput {
  code: number | null;
  signal: string | null;
  stdout: Buffer;
  stderr: Buffer;
}

/** Reads a channel to its end, as long as it prints no more than so many bytes. */
export function readChannel(channel: ClientChannel, maximumBytes: number, signal: AbortSignal): Promise<ChannelOutput> {
  return new Promise((resolve, reject) => {
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    let bytes = 0;
    const onAbort = () => stop(signal.reason as Error);
    const stop = (error: Error) => {
      reject(error);
      signal.removeEventListener('abort', onAbort);
      // What still comes has to be read, or the channel would never be closed.
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
    // Not `exit`, which may have come before anybody could listen.
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

/** What stands between the marks; undefined when the script did not get that far. */
export function betweenMarks(output: Buffer, mark: string): string | undefined {
  const start = output.indexOf(mark);
  const end = output.lastIndexOf(mark);
  return start === end ? undefined : output.toString('utf8', start + mark.length, end);
}
