import { Readable, Writable } from 'node:stream';
import type { Command, Execution, ProcessExit } from '../../execution/driver.ts';

/** What came of a command. */
export interface CommandResult {
  end: ProcessExit;
  stdout: string;
  stderr: string;
}

const KILL_AFTER_MS = 2_000;

/** Executes a command and collects what it prints. */
export async function commandOnHost(
  execution: Execution,
  argv: Command['argv'],
  { env = {}, stdin }: { env?: Command['env']; stdin?: Buffer } = {},
): Promise<CommandResult> {
  const [stdout, stderr] = [collector(), collector()];
  const end = await execution.execute({
    argv,
    env,
    stdout: stdout.stream,
    stderr: stderr.stream,
    killAfterMs: KILL_AFTER_MS,
    ...(stdin === undefined ? {} : { stdin: Readable.from([stdin]) }),
  });
  return { end, stdout: stdout.text(), stderr: stderr.text() };
}

function collector(): { stream: Writable; text(): string } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      done();
    },
  });
  return { stream, text: () => Buffer.concat(chunks).toString('utf8') };
}
