import basicAuth from '@fastify/basic-auth';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { matches } from './credentials.ts';
import type { Credentials } from './credentials.ts';
import { isLoopback } from './loopback.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Answered to anyone. */
    open?: boolean;
  }
}

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Lets nobody in but who may: every route that is not marked `open` asks for the credentials. Without credentials the
 * dashboard is for this machine, so a page of the internet must not reach it under a name of its own (DNS rebinding);
 * and no page of another origin may press its buttons through a browser that is signed in.
 */
export async function addGuard(app: FastifyInstance, credentials: Credentials | undefined): Promise<void> {
  if (credentials !== undefined) {
    await app.register(basicAuth, {
      authenticate: { realm: 'lessor' },
      async validate(username, password) {
        return matches(credentials, { username, password }) ? undefined : new Error('wrong username or password');
      },
    });
    app.addHook('onRequest', function authenticate(request, reply, done) {
      if (request.routeOptions.config.open === true) done();
      else app.basicAuth(request, reply, done);
    });
  } else {
    app.addHook('onRequest', refuseForeignNames);
  }
  app.addHook('onRequest', refuseForeignOrigins);
  app.addHook('onSend', async (_request, reply) => {
    reply.header('x-frame-options', 'DENY').header('x-content-type-options', 'nosniff');
  });
}

async function refuseForeignNames(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (request.routeOptions.config.open === true || isLoopback(request.hostname)) return;
  const message = 'without credentials the dashboard answers only as localhost';
  await reply.code(403).send({ error: 'Forbidden', message });
}

async function refuseForeignOrigins(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (SAFE_METHODS.has(request.method) || isSameOrigin(request)) return;
  await reply.code(403).send({ error: 'Forbidden', message: 'only the dashboard itself may change the queues' });
}

/** Browsers send `sec-fetch-site`, older ones `origin`; what sends neither is no browser. */
function isSameOrigin({ headers, host }: FastifyRequest): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin' || site === 'none';
  const { origin } = headers;
  return origin === undefined || (URL.canParse(origin) && new URL(origin).host === host);
}
