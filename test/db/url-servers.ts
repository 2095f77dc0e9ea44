import { execFile } from 'node:child_process';
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { AddressInfo, ListenOptions, Server, Socket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import postgres from 'postgres';
import { startEmbeddedPostgres } from '../../src/embedded/index.ts';
import { chooseTemporaryRoot } from '../../src/embedded/programs.ts';
import { chooseServerAccount } from '../../src/embedded/server-account.ts';
import { migrate } from '../../src/db/migrate.ts';
import { Closers } from '../../src/lib/closers.ts';
import { migrateQueue } from '../../src/queues/backends/postgres.ts';

const run = promisify(execFile);

/** Of a role on both servers, full of characters that a URL reserves. */
export const USER = 'o:l@ga/?#';
export const PASSWORD = 'p@ss:w/o?r#d%2F&=+';
export const DATABASE = 'le ssor#1';

/** Servers behind addresses of every kind that a URL can name. */
export interface UrlServers {
  /** Of the primary, which encrypts connections if asked, on 127.0.0.1 and ::1. */
  readonly port: number;
  /** Of a server that accepts connections and no writes. */
  readonly readOnlyPort: number;
  /** No server listens on it. */
  readonly closedPort: number;
  /** The directory of the primary's Unix socket, under {@link port}. Its name has characters that a URL reserves. */
  readonly socketDirectory: string;
  /** The certificate of the authority that signed the primary's, which names `localhost` only. */
  readonly authority: string;
  readonly otherAuthority: string;
  /** Whether each connection to the primary since the last call asked for encryption. */
  takeEncrypted(): boolean[];
  close(): Promise<void>;
}

export async function startUrlServers(): Promise<UrlServers> {
  const closers = new Closers();
  try {
    const directory = await makeDirectory();
    closers.add(() => rm(directory, { recursive: true, force: true }));
    await makeCertificates(directory);
    const primary = await startEmbeddedPostgres({
      settings: {
        fsync: 'off',
        ssl: 'on',
        ssl_cert_file: join(directory, 'server.crt'),
        ssl_key_file: join(directory, 'server.key'),
      },
    });
    closers.add(() => primary.stop());
    const readOnly = await startEmbeddedPostgres({ settings: { fsync: 'off', default_transaction_read_only: 'on' } });
    closers.add(() => readOnly.stop());
    await createRoleAndDatabase(primary.url);
    await createRoleAndDatabase(readOnly.url);
    const url = urlTo(`127.0.0.1:${new URL(primary.url).port}`);
    await migrate(url);
    await migrateQueue(url);

    const relay = new Relay(Number(new URL(primary.url).port));
    closers.add(() => relay.close());
    const port = await relay.listen({ port: 0, host: '127.0.0.1' });
    await relay.listen({ port, host: '::1' });
    const socketDirectory = await mkdtemp(join(directory, 's@ck#et '));
    await relay.listen({ path: join(socketDirectory, `.s.PGSQL.${port}`) });
    return {
      port,
      readOnlyPort: Number(new URL(readOnly.url).port),
      closedPort: await freePort(),
      socketDirectory,
      authority: join(directory, 'authority.crt'),
      otherAuthority: join(directory, 'other.crt'),
      takeEncrypted: () => relay.takeEncrypted(),
      close: () => closers.close(),
    };
  } catch (error) {
    await closers.close();
    throw error;
  }
}

/** A URL with the role and the database of the servers. */
export function urlTo(hosts: string, parameters = ''): string {
  const [user, password, database] = [USER, PASSWORD, DATABASE].map(encodeURIComponent);
  return `postgres://${user}:${password}@${hosts}/${database}?${parameters}`;
}

/** The account of the server, which differs from this process's under root, must be able to enter. */
async function makeDirectory(): Promise<string> {
  const directory = await mkdtemp(join(await chooseTemporaryRoot(await chooseServerAccount()), 'lessor-urls-'));
  await chmod(directory, 0o755);
  return directory;
}

async function makeCertificates(directory: string): Promise<void> {
  const openssl = (...args: string[]) => run('openssl', args, { cwd: directory });
  for (const name of ['authority', 'other']) {
    const files = ['-keyout', `${name}.key`, '-out', `${name}.crt`];
    await openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...files, '-subj', `/CN=${name}`, '-days', '2');
  }
  const request = ['-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=localhost'];
  await openssl('req', '-newkey', 'rsa:2048', '-nodes', ...request);
  await writeFile(join(directory, 'names'), 'subjectAltName=DNS:localhost\n');
  const signer = ['-CA', 'authority.crt', '-CAkey', 'authority.key', '-CAcreateserial', '-extfile', 'names'];
  await openssl('x509', '-req', '-in', 'server.csr', '-out', 'server.crt', '-days', '2', ...signer);
  const key = join(directory, 'server.key');
  await chmod(key, 0o600);
  const account = await chooseServerAccount();
  if (account !== undefined) await chown(key, account.uid, account.gid);
}

async function createRoleAndDatabase(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    await sql`set default_transaction_read_only = off`;
    await sql.unsafe(`create role "${USER}" superuser login password '${PASSWORD}'`);
    await sql.unsafe(`create database "${DATABASE}"`);
  } finally {
    await sql.end();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server, { port: 0, host: '127.0.0.1' });
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function listen(server: Server, options: ListenOptions): Promise<number> {
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(options, resolve));
  const address = server.address() as AddressInfo | string;
  return typeof address === 'string' ? 0 : address.port;
}

/** The second word of a connection's first message. */
const SSL_REQUEST = 80_877_103;
const STARTUP = 0x3_00_00;

/** Passes connections on to a port of this machine and notes which asked for encryption. */
class Relay {
  readonly #targetPort: number;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  #encrypted: boolean[] = [];

  constructor(targetPort: number) {
    this.#targetPort = targetPort;
  }

  async listen(options: ListenOptions): Promise<number> {
    const server = createServer((client) => this.#pass(client));
    this.#servers.push(server);
    return listen(server, options);
  }

  takeEncrypted(): boolean[] {
    const encrypted = this.#encrypted;
    this.#encrypted = [];
    return encrypted;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }

  #pass(client: Socket): void {
    client.once('data', (first) => {
      const code = first.length < 8 ? undefined : first.readUInt32BE(4);
      // Anything else ends a connection that its client no longer wants.
      if (code === SSL_REQUEST || code === STARTUP) this.#encrypted.push(code === SSL_REQUEST);
    });
    const target = connect(this.#targetPort, '127.0.0.1');
    for (const [socket, other] of [
      [client, target],
      [target, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  }
}
