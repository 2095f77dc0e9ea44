import { InvalidConfigurationError } from '../../contracts/index.ts';
import { parameterName } from '../../lib/url-parameters.ts';

/** One node of Redis, of a cluster, or one sentinel. */
export interface RedisNode {
  host: string;
  port: number;
}

/** Files of an encrypted connection: named here, read when a client is configured. */
export interface RedisTls {
  /** Certificates of the trusted authorities; undefined for those that Node trusts. */
  caFile: string | undefined;
  clientCertificate: { certificateFile: string; keyFile: string } | undefined;
}

/** How a client signs in and encrypts. */
export interface RedisAccess {
  username: string | undefined;
  password: string | undefined;
  /** Undefined when the connection is not encrypted. */
  tls: RedisTls | undefined;
}

/** Where a Redis URL points to, in terms that are independent of the client. */
export type RedisSettings = { access: RedisAccess } & (
  | { kind: 'single'; node: RedisNode; database: number }
  /** Some nodes of the cluster; the others are discovered from these. */
  | { kind: 'cluster'; nodes: readonly RedisNode[] }
  | {
      kind: 'sentinel';
      sentinels: readonly RedisNode[];
      sentinelAccess: RedisAccess;
      masterName: string;
      database: number;
    }
);

/** Every parameter that a URL may carry. Those of certificates are named as in redis-cli. */
const PARAMETERS = [
  'cluster',
  'node',
  'sentinel',
  'sentinel_user',
  'sentinel_password',
  'sentinel_tls',
  'sentinel_cacert',
  'cacert',
  'cert',
  'key',
] as const;
type Parameter = (typeof PARAMETERS)[number];
type Parameters = ReadonlyMap<Parameter, readonly string[]>;

const DEFAULT_PORT = 6379;

/** Of every error's sentence. */
const SUBJECT = 'the queue URL';

/** A host, which is in brackets if it is an IPv6 address, and its port. */
const NODE = /^(?:\[(?<address>[\da-f:.]+)\]|(?<host>[^:[\]@/]+)):(?<port>\d+)$/i;

/** Whether the text is meant to be a Redis URL. */
export function isRedisUrl(url: string): boolean {
  return /^rediss?:\/\//.test(url);
}

/**
 * Reads a Redis URL:
 * - `redis://user:password@host:6379/0`; `rediss://` for TLS, with `cacert`, `cert` and `key` naming files
 * - `redis://host:6379?cluster=true&node=host2:6379` for a cluster
 * - `redis://sentinel:26379/0?sentinel=NAME&node=sentinel2:26379` for the master called NAME. User, password and
 *   certificates are the master's; the sentinels' are `sentinel_user`, `sentinel_password`, `sentinel_tls=true|false` and
 *   `sentinel_cacert`. By default the sentinels have no password, and the encryption of the master.
 *
 * @throws {InvalidConfigurationError} naming each part or parameter that is not understood, never a value
 */
export function parseRedisUrl(text: string): RedisSettings {
  const url = toUrl(text);
  const parameters = parseParameters(url.search);
  const first = {
    host: decode(url.hostname.replace(/^\[(.*)\]$/, '$1'), 'host') || '127.0.0.1',
    port: toPort(url.port || DEFAULT_PORT),
  };
  const nodes = [first, ...(parameters.get('node') ?? []).map(parseNode)];
  const database = parseDatabase(url.pathname);
  const access = {
    ...parseCredentials(decode(url.username, 'user'), decode(url.password, 'password')),
    tls: parseTls(url.protocol === 'rediss:', parameters),
  };
  const isCluster = parseBoolean(parameters, 'cluster') ?? false;
  const masterName = only(parameters, 'sentinel');
  if (masterName !== undefined) {
    if (isCluster) throw rejected('names both a cluster and a sentinel: use one of the two');
    return {
      kind: 'sentinel',
      sentinels: nodes,
      sentinelAccess: parseSentinelAccess(access, parameters),
      masterName,
      database,
      access,
    };
  }
  const sentinelOnly = [...parameters.keys()].find((name) => name.startsWith('sentinel_'));
  if (sentinelOnly !== undefined) throw rejected(`has ${sentinelOnly} without sentinel`);
  if (isCluster) {
    if (database !== 0) throw rejected('names a database, but Redis Cluster has only database 0');
    return { kind: 'cluster', nodes, access };
  }
  if (nodes.length > 1) throw rejected('names a node, which needs cluster=true or sentinel');
  return { kind: 'single', node: first, database, access };
}

/** What {@link parseRedisUrl} rejects the URL for, as the predicate of a sentence; undefined when it is understood. */
export function findRedisUrlProblem(url: string): string | undefined {
  try {
    parseRedisUrl(url);
    return undefined;
  } catch (error) {
    if (error instanceof InvalidConfigurationError) return error.message.slice(SUBJECT.length + 1);
    throw error;
  }
}

function rejected(predicate: string): InvalidConfigurationError {
  return new InvalidConfigurationError(`${SUBJECT} ${predicate}`);
}

function toUrl(text: string): URL {
  if (!URL.canParse(text)) {
    throw rejected('is not a URL of the form redis://user:password@host:6379/0, percent-encoded where necessary');
  }
  const url = new URL(text);
  if (url.hash !== '' || text.endsWith('#')) throw rejected('has a #: percent-encode it as %23');
  return url;
}

function parseParameters(search: string): Parameters {
  const parameters = new Map<Parameter, string[]>();
  for (const pair of search
    .slice(1)
    .split('&')
    .filter((text) => text !== '')) {
    const [name = '', ...rest] = pair.split('=');
    const parameter = PARAMETERS.find((known) => known === name);
    if (parameter === undefined) {
      throw rejected(
        `has a parameter that is not understood: ${parameterName(name)}. Understood are ${PARAMETERS.join(', ')}`,
      );
    }
    const value = decode(rest.join('='), parameter);
    if (value === '') throw rejected(`gives no value to ${parameter}`);
    const values = parameters.get(parameter) ?? [];
    if (values.length > 0 && parameter !== 'node') throw rejected(`gives ${parameter} twice`);
    parameters.set(parameter, [...values, value]);
  }
  return parameters;
}

/** Anything but a plain name can be half of a password that is not percent-encoded. */
function only(parameters: Parameters, name: Parameter): string | undefined {
  return parameters.get(name)?.[0];
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw rejected(`has a ${what} that is not percent-encoded: a literal % is %25`);
  }
}

function parseNode(text: string): RedisNode {
  const parts = NODE.exec(text)?.groups;
  if (parts === undefined) throw rejected('has a node that is not of the form host:port or [address]:port');
  return { host: parts['address'] ?? parts['host']!, port: toPort(parts['port']!) };
}

function toPort(text: string | number): number {
  const port = Number(text);
  if (port >= 1 && port <= 65_535) return port;
  throw rejected('has a port that is not a number from 1 to 65535');
}

function parseDatabase(pathname: string): number {
  const text = pathname.replace(/^\//, '');
  if (!/^\d{0,9}$/.test(text)) throw rejected('has a database that is not a number');
  return Number(text);
}

/** Redis has no user without a password: ioredis would not sign in at all. */
function parseCredentials(username: string, password: string): Pick<RedisAccess, 'username' | 'password'> {
  if (username !== '' && password === '') throw rejected('names a user without a password');
  return { username: username || undefined, password: password || undefined };
}

function parseSentinelAccess(master: RedisAccess, parameters: Parameters): RedisAccess {
  const isEncrypted = parseBoolean(parameters, 'sentinel_tls') ?? master.tls !== undefined;
  const caFile = only(parameters, 'sentinel_cacert') ?? master.tls?.caFile;
  if (!isEncrypted && parameters.has('sentinel_cacert'))
    throw rejected('has sentinel_cacert without sentinel_tls=true');
  return {
    ...parseCredentials(only(parameters, 'sentinel_user') ?? '', only(parameters, 'sentinel_password') ?? ''),
    tls: isEncrypted ? { caFile, clientCertificate: master.tls?.clientCertificate } : undefined,
  };
}

function parseTls(isEncrypted: boolean, parameters: Parameters): RedisTls | undefined {
  if (!isEncrypted) {
    const tlsOnly = (['cacert', 'cert', 'key'] as const).find((name) => parameters.has(name));
    if (tlsOnly !== undefined) throw rejected(`has ${tlsOnly}, which needs rediss://`);
    return undefined;
  }
  const certificateFile = only(parameters, 'cert');
  const keyFile = only(parameters, 'key');
  if ((certificateFile === undefined) !== (keyFile === undefined)) throw rejected('has only one of cert and key');
  return {
    caFile: only(parameters, 'cacert'),
    clientCertificate:
      certificateFile === undefined || keyFile === undefined ? undefined : { certificateFile, keyFile },
  };
}

function parseBoolean(parameters: Parameters, name: Parameter): boolean | undefined {
  const value = only(parameters, name);
  if (value === undefined) return undefined;
  if (value !== 'true' && value !== 'false') throw rejected(`has a ${name} that is neither true nor false`);
  return value === 'true';
}
