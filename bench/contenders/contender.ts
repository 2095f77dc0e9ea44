import type { Phase, Run } from '../workload.ts';

/** The stores of one measurement: a new database and an empty Redis. */
export interface ContenderStores {
  databaseUrl: string;
  redisUrl: string;
}

/** One way to write the starts and the ends of runs into Postgres, or an upper limit of such a way. */
export interface Contender {
  /** Its name in plots. */
  readonly label: string;
  /** One line of description. */
  readonly title: string;
  /** The npm packages it uses, besides Lessor's own. */
  readonly packages: readonly string[];
  /** What its documentation recommends for speed while the jobs of each company stay serialized. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Whether it writes the rows, which are then audited. */
  readonly writesRows: boolean;
  /** Invariants that this way of writing cannot keep, and that are not audited. */
  readonly notPromised?: readonly string[];
  /** Prepares what is not measured: connections, tables of its own, prepared statements. */
  open(stores: ContenderStores, runs: readonly Run[]): Promise<OpenContender>;
}

/** A contender that is ready for its runs. */
export interface OpenContender {
  /** Enqueues the messages of all runs, without processing any. */
  load(phase: Phase): Promise<void>;
  /** Processes what was loaded, and resolves once all of it is done. Only this is measured. */
  drain(): Promise<void>;
  /** Violations that it detected itself, such as two concurrent jobs of a company. */
  violations(): string[];
  close(): Promise<void>;
}
