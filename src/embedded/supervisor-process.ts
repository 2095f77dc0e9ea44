import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { extname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { z } from 'zod';
import { EmbeddedPostgresError, embeddedPostgresErrorCodes } from './errors.ts';
import { OutputTail } from './output-tail.ts';

/** What a parent requests of its supervisor, as JSON in the supervisor's only argument. It holds no secret. */
export const supervisorRequestSchema = z.strictObject({
  /** `null`: a temporary directory, removed when the server has stopped. */
  dataDirectory: z.string().min(1).nullable(),
  /** `null`: any free port. */
  port: z.int().min(1).max(65_535).nullable(),
  settings: z.record(z.string(), z.string()),
});
export type SupervisorRequest = z.infer<typeof supervisorRequestSchema>;

/** What the supervisor reports to its parent. */
const supervisorReportSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('ready'), url: z.string(), directory: z.string() }),
  z.strictObject({ kind: z.literal('failed'), code: z.enum(embeddedPostgresErrorCodes), message: z.string() }),
]);
export type SupervisorReport = z.infer<typeof supervisorReportSchema>;

/** Parses one line of the supervisor's standard output. */
export const reportLineSchema = z
  .string()
  .transform((line, context): unknown => {
    try {
      return JSON.parse(line);
    } catch (error) {
      context.addIssue(`not JSON: ${String(error)}`);
      return z.NEVER;
    }
  })
  .pipe(supervisorReportSchema);

export type ReadyReport = Extract<SupervisorReport, { kind: 'ready' }>;

/** The parent's end of a supervisor: starts it, reads its reports, and ends it by closing its standard input. */
export class SupervisorProcess {
  /** Settles when the supervisor has ended; rejects when it reported, or showed, a failure. */
  readonly ended: Promise<void>;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #errors: OutputTail;
  readonly #ready: Promise<ReadyReport>;
  #failure: EmbeddedPostgresError | undefined;

  constructor(request: SupervisorRequest) {
    this.#child = spawn(process.execPath, supervisorArguments(request), {
      // A process group of its own: Ctrl-C on the terminal reaches the parent only, which then stops in its order.
      detached: true,
      windowsHide: true,
      // Options such as --inspect are meant for the parent.
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    this.#errors = new OutputTail(this.#child.stderr);
    // Writing to a supervisor that has ended fails; its exit says why.
    this.#child.stdin.on('error', (error) => this.#errors.append(`standard input: ${error.message}\n`));
    this.#ready = this.#listen();
    this.ended = this.#untilClosed();
  }

  /** Waits for the server; afterwards nothing here keeps the parent's event loop alive. */
  async ready(): Promise<ReadyReport> {
    const report = await Promise.race([this.#ready, this.ended]);
    if (!report)
      throw new EmbeddedPostgresError('supervisor_failed', 'The supervisor ended before its server was ready.');
    this.#setKeepingParentAlive(false);
    return report;
  }

  /** Ends the server and waits until the supervisor has removed what is temporary. */
  async stop(): Promise<void> {
    this.#setKeepingParentAlive(true);
    this.#child.stdin.end();
    await this.ended;
  }

  #listen(): Promise<ReadyReport> {
    const lines = createInterface({ input: this.#child.stdout });
    return new Promise((resolve, reject) => {
      lines.on('line', (line) => {
        const { success, data, error } = reportLineSchema.safeParse(line);
        if (!success) return reject(error);
        if (data.kind === 'ready') return resolve(data);
        this.#failure = new EmbeddedPostgresError(data.code, data.message);
      });
    });
  }

  async #untilClosed(): Promise<void> {
    const end = await this.#close();
    if (this.#failure) throw this.#failure;
    if (end === 0) return;
    const message = `The supervisor of PostgreSQL ended with ${end}. Its output ended:\n${this.#errors.text}`;
    throw new EmbeddedPostgresError('supervisor_failed', message);
  }

  #close(): Promise<number | NodeJS.Signals | null> {
    return new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('close', (code, signal) => resolve(code ?? signal));
    });
  }

  #setKeepingParentAlive(alive: boolean): void {
    const { stdin, stdout, stderr } = this.#child;
    const pipes = [stdin, stdout, stderr].filter((stream) => stream instanceof Socket);
    for (const handle of [this.#child, ...pipes]) {
      if (alive) handle.ref();
      else handle.unref();
    }
  }
}

/** The supervisor runs in the form this module has: compiled, or from source with tsx. */
function supervisorArguments(request: SupervisorRequest): string[] {
  const extension = extname(import.meta.url);
  const supervisor = fileURLToPath(new URL(`./supervisor${extension}`, import.meta.url));
  const loader = extension === '.ts' ? ['--import', resolveTsx()] : [];
  return [...loader, supervisor, JSON.stringify(request)];
}

/** By `require.resolve`, since `import.meta.resolve` is missing where Vitest runs modules. */
function resolveTsx(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
}
