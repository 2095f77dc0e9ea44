import ora from 'ora';
import type { Ora } from 'ora';
import type { GrantedLease } from '../contracts/index.ts';
import type { PrepareReport, RestoreReport, SkippedPath, TransferProgress } from '../execution/driver.ts';
import type { ExecutionPhase } from '../execution/execute-in-environment.ts';
import type { CommandRunObserver } from './command-run.ts';
import { describeError } from './report-error.ts';

/** So many paths that were skipped are named; a conflict always is. */
const SKIPPED_NAMED = 20;

/** Shows on stderr how a run goes on: by a spinner on a terminal, and in lines what must not be missed. */
export class RunDisplay implements CommandRunObserver {
  readonly #stderr: NodeJS.WriteStream;
  readonly #spinner: Ora;
  #isLocal = true;

  constructor(stderr: NodeJS.WriteStream) {
    this.#stderr = stderr;
    this.#spinner = ora({
      text: 'waiting for a lease',
      stream: stderr,
      // Reading the keyboard would swallow Ctrl-C, and a terminal that tells no width cannot be drawn on.
      discardStdin: false,
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
    this.#spinner.succeed(`${printable(environment.name)}: lease ${id}, fencing token ${fencingToken}`);
  }

  onPhase(phase: ExecutionPhase): void {
    if (this.#isLocal) return;
    if (phase === 'executing') this.#spinner.stop();
    else this.#spinner.start(phase === 'preparing' ? 'looking at the workspace' : 'looking for changes');
  }

  onProgress({ direction, files, totalFiles, bytes, totalBytes }: TransferProgress): void {
    const doing = direction === 'upload' ? 'uploading' : 'bringing back';
    this.#spinner.text = `${doing} ${files} of ${totalFiles} files, ${megabytes(bytes)} of ${megabytes(totalBytes)} MB`;
  }

  onPrepared({ files, bytes, skipped }: PrepareReport): void {
    if (files > 0) this.#spinner.succeed(`uploaded: ${files} files, ${megabytes(bytes)} MB`);
    this.#tellSkipped('not uploaded', skipped);
  }

  onRestored({ changed, created, deleted, conflicts, skipped }: RestoreReport): void {
    this.#spinner.stop();
    const counts = { changed: changed.length, new: created.length, deleted: deleted.length };
    const told = Object.entries(counts).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
    if (told.length > 0) this.#line(`brought back: ${told.join(', ')}`);
    for (const { path, keptAs } of conflicts) {
      if (keptAs === null) this.#line(`conflict: ${printable(path)} was deleted there and changed here; it is kept`);
      else this.#line(`conflict: ${printable(path)} changed on both sides; theirs is ${printable(keptAs)}`);
    }
    this.#tellSkipped('not brought back', skipped);
  }

  onHurry(): void {
    this.#line('what changed is being brought back; another signal ends that, and leaves it on the environment');
  }

  onUnsentSignal(error: unknown): void {
    this.#line(`the signal was not passed on: ${describeError(error)}`);
  }

  #tellSkipped(what: string, skipped: readonly SkippedPath[]): void {
    for (const { path, reason } of skipped.slice(0, SKIPPED_NAMED)) {
      this.#line(`${what}: ${printable(path)}: ${printable(reason)}`);
    }
    const more = skipped.length - SKIPPED_NAMED;
    if (more > 0) this.#line(`${what}: ${more} more`);
  }

  /** A spinner that turns is drawn again below. */
  #line(text: string): void {
    const turning = this.#spinner.isSpinning;
    if (turning) this.#spinner.clear();
    this.#stderr.write(`${text}\n`);
    if (turning) this.#spinner.render();
  }
}

/** Names of files come from a host, and must not be taken for commands by a terminal. */
function printable(text: string): string {
  return text.replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}

function megabytes(bytes: number): string {
  return (bytes / 1_000_000).toFixed(1);
}
