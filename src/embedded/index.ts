/**
 * Starts PostgreSQL from npm packages, for development, demonstrations and tests: nothing to install, no container.
 *
 * @module
 */
import { resolve } from 'node:path';
import { SupervisorProcess } from './supervisor-process.ts';

export { EmbeddedPostgresError } from './errors.ts';

/** Where the embedded server logs; a pino logger is one. */
export interface EmbeddedPostgresLogger {
  info(message: string): void;
  warn(message: string): void;
}

/** Everything is optional: the default is an ephemeral server on a free port. */
export interface EmbeddedPostgresOptions {
  /**
   * Where to keep the data, and its password, for the next start. Left out, they are temporary: removed when the
   * server stops, and not protected against a crash of the machine meanwhile.
   */
  readonly dataDirectory?: string;
  /** Left out: any free port. Either way it listens on 127.0.0.1 only. */
  readonly port?: number;
  /** Settings as in postgresql.conf, for example `{ max_connections: 300 }`. */
  readonly settings?: Readonly<Record<string, string | number | boolean>>;
  readonly logger?: EmbeddedPostgresLogger;
}

/** A server that accepts connections until it is stopped, or its parent has ended. */
export interface EmbeddedPostgres {
  /** `postgres://lessor:PASSWORD@127.0.0.1:PORT/lessor` */
  readonly url: string;
  /**
   * Stops the server and removes what is temporary. Resolves when no process is left; rejects when the server had
   * already ended on its own. Calling it again returns the same promise.
   */
  stop(): Promise<void>;
}

/**
 * Starts a PostgreSQL server that belongs to this process: it ends with it, even when it is killed. It does not keep
 * the process alive.
 *
 * @throws {@link EmbeddedPostgresError} when no server can be started; its `code` and message say why.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  const { dataDirectory, port, settings = {}, logger } = options;
  const supervisor = new SupervisorProcess({
    dataDirectory: dataDirectory === undefined ? null : resolve(dataDirectory),
    port: port ?? null,
    settings: Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)])),
  });
  const { url, directory } = await supervisor.ready();
  logger?.info(`PostgreSQL listens on ${new URL(url).host}, with its data in ${directory}`);
  supervisor.ended.catch((error: Error) => logger?.warn(error.message));
  let stopping: Promise<void> | undefined;
  return { url, stop: () => (stopping ??= supervisor.stop()) };
}
