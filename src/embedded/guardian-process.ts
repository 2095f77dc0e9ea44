import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { extname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { EmbeddedPostgresError } from './errors.ts';
import { OutputTail } from './output-tail.ts';
import { reportLineSchema, type GuardianReport, type GuardianRequest } from './protocol.ts';

export type ReadyReport = Extract<GuardianReport, { kind: 'ready' }>;

/** The owner's end of a guardian: starts it, hears it, and ends it by closing its standard input. */
export class GuardianProcess {
  /** Settles when the guardian is gone; rejects when it reported, or showed, a failure. */
  readonly ended: Promise<void>;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #errors: OutputTail;
  readonly #ready: Promise<ReadyReport>;
  #failure: EmbeddedPostgresError | undefined;

  constructor(request: GuardianRequest) {
    this.#child = spawn(process.execPath, guardianArguments(request), {
      // A process group of its own: Ctrl-C on the terminal reaches the owner only, which then stops in its order.
      detached: true,
      windowsHide: true,
      // Options such as --inspect are meant for the owner.
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    this.#errors = new OutputTail(this.#child.stderr);
    // A guardian that is already gone cannot be told to leave; its exit tells the rest.
    this.#child.stdin.on('error', (error) => this.#errors.append(`standard input: ${error.message}\n`));
    this.#ready = this.#listen();
    this.ended = this.#untilClosed();
  }

  /** Waits for the server; afterwards nothing here keeps the owner's event loop alive. */
  async ready(): Promise<ReadyReport> {
    const report = await Promise.race([this.#ready, this.ended]);
    if (!report) throw new EmbeddedPostgresError('supervisor_failed', 'The guardian left before its server was ready.');
    this.#setKeepingOwnerAlive(false);
    return report;
  }

  /** Ends the server and waits until the guardian has tidied up. */
  async leave(): Promise<void> {
    this.#setKeepingOwnerAlive(true);
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
    const message = `The guardian of PostgreSQL ended with ${end}. Its last words:\n${this.#errors.text}`;
    throw new EmbeddedPostgresError('supervisor_failed', message);
  }

  #close(): Promise<number | NodeJS.Signals | null> {
    return new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('close', (code, signal) => resolve(code ?? signal));
    });
  }

  #setKeepingOwnerAlive(alive: boolean): void {
    const { stdin, stdout, stderr } = this.#child;
    const pipes = [stdin, stdout, stderr].filter((stream) => stream instanceof Socket);
    for (const handle of [this.#child, ...pipes]) {
      if (alive) handle.ref();
      else handle.unref();
    }
  }
}

/** The guardian runs in the form this module has: compiled, or from source with tsx. */
function guardianArguments(request: GuardianRequest): string[] {
  const extension = extname(import.meta.url);
  const guardian = fileURLToPath(new URL(`./guardian${extension}`, import.meta.url));
  const loader = extension === '.ts' ? ['--import', resolveTsx()] : [];
  return [...loader, guardian, JSON.stringify(request)];
}

/** By `require.resolve`, since `import.meta.resolve` is missing where Vitest runs modules. */
function resolveTsx(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
}
