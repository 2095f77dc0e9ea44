import type { Phase, Run } from '../workload.ts';

/** The stores of one measurement: a database of its own, and an empty Redis. */
export interface Surroundings {
  databaseUrl: string;
  redisUrl: string;
}

/** One way to write the starts and the ends of runs into Postgres, or the limit of one. */
export interface Contender {
  /** Its name in plots. */
  readonly label: string;
  /** What it is, in words. */
  readonly title: string;
  /** The npm packages that it is made of, besides Lessor's own. */
  readonly packages: readonly string[];
  /** How it is set up: what its documentation advises for speed that leaves each company's jobs one after the other. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Whether it writes the rows that all others write. */
  readonly writesRows: boolean;
  /** Invariants that nobody can keep in this way, so that the audit does not ask for them. */
  readonly notPromised?: readonly string[];
  /** Does what is not measured: connections, tables of its own, statements that are prepared. */
  open(where: Surroundings, runs: readonly Run[]): Promise<OpenContender>;
}

/** A contender that is ready for the runs it was opened for. */
export interface OpenContender {
  /** Puts the messages of all runs in place, without any being worked on yet. */
  load(phase: Phase): Promise<void>;
  /** Has what was loaded worked off, and resolves once all of it is done. Only this is measured. */
  drain(): Promise<void>;
  /** What it noticed itself that must not be, such as two jobs of a company at once. */
  violations(): string[];
  close(): Promise<void>;
}
