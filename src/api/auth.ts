import { createHash, timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import basicAuth from '@fastify/basic-auth';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { InvalidConfigurationError } from '../contracts/index.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Answered without credentials. */
    public?: boolean;
  }
}

/** The one user of the console. */
export interface Credentials {
  username: string;
  password: string;
}

/**
 * The credentials of the settings DASHBOARD_USERNAME and DASHBOARD_PASSWORD.
 * @returns undefined when neither is set
 * @throws {InvalidConfigurationError} when one of the two is missing or empty
 */
export function credentialsOf(settings: {
  username?: string | undefined;
  password?: string | undefined;
}): Credentials | undefined {
  const { username, password } = settings;
  if (username === undefined && password === undefined) return undefined;
  const credentials = { username: username ?? '', password: password ?? '' };
  assertCredentials(credentials);
  return credentials;
}

/**
 * Checks that only authorized clients will reach the server.
 * @throws {InvalidConfigurationError} when the credentials are unusable, or missing although other machines reach `host`
 */
export function assertAccessControlled(host: string, credentials: Credentials | undefined): void {
  if (credentials !== undefined) assertCredentials(credentials);
  else if (!isLoopback(host)) {
    throw new InvalidConfigurationError(
      'other machines can reach DASHBOARD_HOST: set DASHBOARD_USERNAME and DASHBOARD_PASSWORD, or use 127.0.0.1',
    );
  }
}

function assertCredentials({ username, password }: Credentials): void {
  if (username === '' || password === '') {
    throw new InvalidConfigurationError('set both DASHBOARD_USERNAME and DASHBOARD_PASSWORD, neither of them empty');
  }
  if (username.includes(':')) {
    throw new InvalidConfigurationError('DASHBOARD_USERNAME contains a colon, which HTTP basic authentication forbids');
  }
}

/**
 * Authenticates every route that is not `public`. Without credentials the server is for this machine only, so requests
 * under another host name are rejected: a web page could send them by DNS rebinding. Requests that change something are
 * rejected from other origins, which could send them from a browser that is signed in (CSRF).
 */
export async function addAuth(app: FastifyInstance, credentials: Credentials | undefined): Promise<void> {
  if (credentials !== undefined) {
    await app.register(basicAuth, {
      authenticate: { realm: 'lessor' },
      async validate(username, password) {
        return matches(credentials, { username, password }) ? undefined : new Error('wrong username or password');
      },
    });
    app.addHook('onRequest', function authenticate(request, reply, done) {
      if (request.routeOptions.config.public === true) done();
      else app.basicAuth(request, reply, done);
    });
  } else {
    app.addHook('onRequest', rejectForeignHosts);
  }
  app.addHook('onRequest', rejectForeignOrigins);
  app.addHook('onSend', async (_request, reply) => {
    reply.header('x-frame-options', 'DENY').header('x-content-type-options', 'nosniff');
  });
}

/** Takes the same time whatever differs, the lengths included. */
function matches(expected: Credentials, given: Credentials): boolean {
  const sameUsername = timingSafeEqual(digest(expected.username), digest(given.username));
  const samePassword = timingSafeEqual(digest(expected.password), digest(given.password));
  return sameUsername && samePassword;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

async function rejectForeignHosts(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (request.routeOptions.config.public === true || isLoopback(request.hostname)) return;
  const message = 'without credentials the server answers only as localhost';
  await reply.code(403).send({ error: 'Forbidden', message });
}

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

async function rejectForeignOrigins(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (SAFE_METHODS.has(request.method) || isSameOrigin(request)) return;
  await reply.code(403).send({ error: 'Forbidden', message: 'requests from other origins may not change anything' });
}

/** Browsers send `sec-fetch-site`, older ones `origin`; a client that sends neither is no browser. */
function isSameOrigin({ headers, host }: FastifyRequest): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin' || site === 'none';
  const { origin } = headers;
  return origin === undefined || (URL.canParse(origin) && new URL(origin).host === host);
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** Whether only this machine can reach `host`, a name or an address with or without brackets. */
export function isLoopback(host: string): boolean {
  const address = host.replace(/^\[(?<address>.*)\]$/, '$<address>');
  const family = isIP(address);
  if (family === 0) return address.toLowerCase() === 'localhost';
  return LOOPBACK.check(address, family === 4 ? 'ipv4' : 'ipv6');
}
