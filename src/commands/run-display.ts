import ora from 'ora';
import type { Ora } from 'ora';
import type { GrantedLease } from '../contracts/index.ts';
import type { PrepareReport, RestoreReport, SkippedPath, TransferProgress } from '../execution/driver.ts';
import type { ExecutionPhase } from '../execution/execute-in-environment.ts';
import type { CommandRunObserver } from './command-run.ts';
import { printableLine } from '../lib/printable.ts';
import { terminalOf } from './table.ts';
import { describeError } from './report-error.ts';

/** Conflicts are all listed, skipped paths up to this many. */
const MAX_LISTED_SKIPPED = 20;

/** Shows the progress of a run on stderr: a spinner on a terminal, and a line for each event worth keeping. */
export class RunDisplay implements CommandRunObserver {
  readonly #stderr: NodeJS.WriteStream;
  readonly #spinner: Ora;
  #isLocal = true;

  constructor(stderr: NodeJS.WriteStream) {
    this.#stderr = stderr;
    this.#spinner = ora({
      text: 'waiting for a lease',
      stream: stderr,
      // Reading stdin would swallow Ctrl-C, and a terminal of unknown width cannot be redrawn.
      discardStdin: false,
      color: terminalOf(stderr).hasColors && 'cyan',
      isSilent: !stderr.isTTY || !stderr.columns,
    });
  }

  start(): void {
    this.#spinner.start();
  }

  stop(): void {
    this.#spinner.stop();
  }

  onLease({ id, fencingToken, environment }: GrantedLease): void {
    this.#isLocal = environment.driver === 'local';
    this.#spinner.succeed(`${printableLine(environment.name)}: lease ${id}, fencing token ${fencingToken}`);
  }

  onPhase(phase: ExecutionPhase): void {
    if (this.#isLocal) return;
    if (phase === 'executing') this.#spinner.stop();
    else this.#spinner.start(phase === 'preparing' ? 'scanning the workspace' : 'scanning for changes');
  }

  onProgress({ direction, files, totalFiles, bytes, totalBytes }: TransferProgress): void {
    const doing = direction === 'upload' ? 'uploading' : 'downloading';
    this.#spinner.text = `${doing} ${files} of ${totalFiles} files, ${megabytes(bytes)} of ${megabytes(totalBytes)} MB`;
  }

  onPrepared({ files, bytes, skipped }: PrepareReport): void {
    if (files > 0) this.#spinner.succeed(`uploaded: ${files} files, ${megabytes(bytes)} MB`);
    this.#listSkipped('not uploaded', skipped);
  }

  onRestored({ changed, created, deleted, conflicts, skipped }: RestoreReport): void {
    this.#spinner.stop();
    const counts = { changed: changed.length, new: created.length, deleted: deleted.length };
    const nonZero = Object.entries(counts).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
    if (nonZero.length > 0) this.#line(`downloaded: ${nonZero.join(', ')}`);
    for (const { path, keptAs } of conflicts) {
      if (keptAs === null)
        this.#line(`conflict: ${printableLine(path)} was deleted remotely and changed locally; the local file is kept`);
      else
        this.#line(
          `conflict: ${printableLine(path)} changed on both sides; the remote version is ${printableLine(keptAs)}`,
        );
    }
    this.#listSkipped('not downloaded', skipped);
  }

  onRestoreInterrupted(): void {
    this.#line('changed files are being downloaded; another signal aborts that and leaves them on the environment');
  }

  onKilled(ended: string): void {
    this.#line(`command ${ended}`);
  }

  onUnsentSignal(error: unknown): void {
    this.#line(`the signal was not forwarded: ${printableLine(describeError(error))}`);
  }

  #listSkipped(what: string, skipped: readonly SkippedPath[]): void {
    for (const { path, reason } of skipped.slice(0, MAX_LISTED_SKIPPED)) {
      this.#line(`${what}: ${printableLine(path)}: ${printableLine(reason)}`);
    }
    const more = skipped.length - MAX_LISTED_SKIPPED;
    if (more > 0) this.#line(`${what}: ${more} more`);
  }

  /** Redraws an active spinner below the line. */
  #line(text: string): void {
    const isSpinning = this.#spinner.isSpinning;
    if (isSpinning) this.#spinner.clear();
    this.#stderr.write(`${text}\n`);
    if (isSpinning) this.#spinner.render();
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1_000_000).toFixed(1);
}
