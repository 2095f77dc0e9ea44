import type { FastifyInstance } from 'fastify';
import { checkReadiness } from './readiness.ts';
import type { Readiness, ReadinessOptions } from './readiness.ts';

/** Orchestrators ask every few seconds, so only what goes wrong is worth a log line. */
const FOR_ORCHESTRATORS = { config: { open: true }, logLevel: 'warn' } as const;

/** Adds `/health/live` and `/health/ready`, which need no credentials. */
export function addHealthRoutes(app: FastifyInstance, stores: ReadinessOptions): void {
  let underWay: Promise<Readiness> | undefined;
  /** Anyone may ask, but only one question at a time reaches the stores. */
  const readiness = () => {
    underWay ??= checkReadiness(stores).finally(() => (underWay = undefined));
    return underWay;
  };

  app.get('/health/live', FOR_ORCHESTRATORS, () => ({ status: 'live' }));
  app.get('/health/ready', FOR_ORCHESTRATORS, async (_request, reply) => {
    const answer = await readiness();
    return reply.code(answer.status === 'ready' ? 200 : 503).send(answer);
  });
}
