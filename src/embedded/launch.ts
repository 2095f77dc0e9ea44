import { setTimeout as delay } from 'node:timers/promises';
import getPort from 'get-port';
import { EmbeddedPostgresError } from './errors.ts';
import { startServer, type Server, type ServerLaunch } from './server.ts';

/** Another process may take a free port between our look and the server's bind. */
const PORT_ATTEMPTS = 5;

/** A server whose owner has just gone, as on every restart under a file watcher, needs a moment to let go. */
const PREDECESSOR_GRACE_MS = 5_000;
const PREDECESSOR_POLL_MS = 100;

/** Starts the server on the wanted port, or on one that is free. */
export async function launchServer(launch: ServerLaunch, wantedPort: number | null): Promise<Server> {
  if (wantedPort !== null) return startAfterPredecessor(launch, wantedPort);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startAfterPredecessor(launch, await getPort({ host: '127.0.0.1' }));
    } catch (error) {
      if (!isFailure(error, 'port_in_use') || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

async function startAfterPredecessor(launch: ServerLaunch, port: number): Promise<Server> {
  const graceEnd = Date.now() + PREDECESSOR_GRACE_MS;
  for (;;) {
    try {
      return await startServer(launch, port);
    } catch (error) {
      if (!isFailure(error, 'data_directory_in_use') || Date.now() > graceEnd) throw error;
    }
    await delay(PREDECESSOR_POLL_MS, undefined, { signal: launch.signal });
  }
}

function isFailure(error: unknown, code: EmbeddedPostgresError['code']): boolean {
  return error instanceof EmbeddedPostgresError && error.code === code;
}
