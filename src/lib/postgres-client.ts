import { Socket } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import { Client } from 'pg';
import type { PostgresHost, PostgresSettings } from './postgres-url.ts';
import { readPem } from './url-parameters.ts';

/** Per server, while one of several is chosen: a server that is down must leave time for the next one. */
const CHOICE_TIMEOUT_MS = 3_000;

/** The part of node-postgres' configuration that a URL decides. */
export interface PostgresClientConfig {
  host: string;
  port: number;
  user: string;
  password?: string;
  database: string;
  ssl: ConnectionOptions | false;
  application_name?: string;
  options?: string;
  stream?: () => Socket;
}

/** How node-postgres connects to where a URL points. */
export function toClientConfig(settings: PostgresSettings): PostgresClientConfig {
  const { host, port } = settings.hosts[0]!;
  const { user, password, database, applicationName, options } = settings;
  return {
    host,
    port,
    user,
    ...(password === undefined ? {} : { password }),
    database,
    ssl: toTlsOptions(settings) ?? false,
    ...(applicationName === undefined ? {} : { application_name: applicationName }),
    ...(options === undefined ? {} : { options }),
    ...(mustChooseHost(settings) ? { stream: () => new ChosenHostSocket(settings) } : {}),
  };
}

/** Node's options for an encrypted connection; undefined for one that is not encrypted. */
export function toTlsOptions({ tls, hosts }: PostgresSettings): ConnectionOptions | undefined {
  if (tls === undefined) return undefined;
  const { check, rootCertificateFile, clientCertificate } = tls;
  return {
    rejectUnauthorized: check !== 'none',
    // Given always: postgres.js would compare the certificate of an IP address with `localhost`.
    checkServerIdentity: (_name, certificate) => {
      if (check !== 'host') return undefined;
      const mismatches = hosts.map(({ host }) => checkServerIdentity(host, certificate));
      return mismatches.includes(undefined) ? undefined : mismatches[0];
    },
    ...(rootCertificateFile === undefined
      ? {}
      : { ca: readPem(rootCertificateFile, 'sslrootcert of the Postgres URL') }),
    ...(clientCertificate === undefined
      ? {}
      : {
          cert: readPem(clientCertificate.certificateFile, 'sslcert of the Postgres URL'),
          key: readPem(clientCertificate.keyFile, 'sslkey of the Postgres URL'),
        }),
  };
}

/** No server of the URL is one that Lessor can write to. Node's code for it makes it an outage: a failover ends it. */
class NoSuitableServerError extends Error {
  override readonly name = 'NoSuitableServerError';
  readonly code = 'EHOSTUNREACH';
}

/**
 * The first server of a URL that accepts a session of the wanted kind. Neither driver can do this: node-postgres knows
 * one host only, and postgres.js takes a standby for read-write.
 *
 * @throws the last server's error when none accepts a connection, else NoSuitableServerError
 */
export async function chooseHost(settings: PostgresSettings): Promise<PostgresHost> {
  if (!mustChooseHost(settings)) return settings.hosts[0]!;
  const failures: unknown[] = [];
  for (const host of settings.hosts) {
    try {
      if (await isSuitable(host, settings)) return host;
    } catch (error) {
      failures.push(error);
    }
  }
  const cause = failures.at(-1);
  if (failures.length === settings.hosts.length) throw cause;
  throw new NoSuitableServerError(`no server of the Postgres URL is up and ${settings.targetSession}`, { cause });
}

function mustChooseHost({ hosts, targetSession }: PostgresSettings): boolean {
  return hosts.length > 1 || targetSession !== 'any';
}

async function isSuitable(host: PostgresHost, settings: PostgresSettings): Promise<boolean> {
  const client = new Client({
    ...toClientConfig({ ...settings, hosts: [host], targetSession: 'any' }),
    connectionTimeoutMillis: CHOICE_TIMEOUT_MS,
    query_timeout: CHOICE_TIMEOUT_MS,
  });
  // A lost connection also rejects the query in flight.
  client.on('error', () => undefined);
  await client.connect();
  try {
    const { rows } = await client.query<{ isStandby: boolean; isReadOnly: boolean }>(
      `select pg_is_in_recovery() as "isStandby", current_setting('transaction_read_only') = 'on' as "isReadOnly"`,
    );
    const { isStandby, isReadOnly } = rows[0]!;
    if (settings.targetSession === 'primary') return !isStandby;
    return settings.targetSession === 'any' || !isReadOnly;
  } finally {
    await client.end();
  }
}

/** The socket that node-postgres connects, to the chosen host instead of the first one. */
class ChosenHostSocket extends Socket {
  readonly #settings: PostgresSettings;

  constructor(settings: PostgresSettings) {
    super();
    this.#settings = settings;
  }

  override connect(): this {
    chooseHost(this.#settings).then(
      (chosen) => this.#connectTo(chosen),
      (error: unknown) => this.destroy(error as Error),
    );
    return this;
  }

  #connectTo(chosen: PostgresHost): void {
    if (this.destroyed) return;
    const path = socketPath(chosen);
    if (path === undefined) super.connect(chosen.port, chosen.host);
    else super.connect(path);
  }
}

/** The path of the Unix socket where the host is a directory of one. */
export function socketPath({ host, port }: PostgresHost): string | undefined {
  return host.startsWith('/') ? `${host}/.s.PGSQL.${port}` : undefined;
}
